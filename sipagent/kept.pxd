from sipagent.ring cimport Ring

cdef Py_ssize_t _KEPT_BYTES

cdef class Kept:
    cdef public bint hears, caller_speaks
    cdef public object to
    cdef public long dropped
    cdef Ring _lately
    cdef bytearray _words

    cpdef take(self, bytes payload)
    cdef _keep(self, bytes payload)
