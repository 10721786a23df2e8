from sipagent cimport native

cdef class RtpSocket:
    cdef object _sock, _on_datagram, _loop, _trap
    cdef int _fd, _early
    cdef public int port, send_errors

    cpdef send(self, bytes datagram)
