cdef int _KEPT_FRAMES, _HEARD_FRAMES

cdef class Kept:
    cdef public object frames, to
    cdef public bint hears
    cdef object _talk, _counters

    cpdef take(self, bytes payload)
