from sipagent cimport native

cdef int MAX_UNSENT_BYTES
cdef bytes HEAD, TAIL

cdef class Uplink:
    cdef public int dropped_frames
    cdef public object waiting
    cdef object _session, _send
    cdef int _fd
    cdef bint _ready

    cpdef append_audio(self, bytes payload)
    cpdef bint _full(self)
