cimport cython

cdef class _Seat:
    cdef public object stream
    cdef public long due, home, slot
    cdef public bint hop

cdef class Wheel:
    cdef public long shifted_ms
    cdef public object lateness, on_first
    cdef double _epoch
    cdef long _position
    cdef list _slots
    cdef dict _seats

    cdef long _due(self, double now)
    @cython.locals(due=long, end=long, position=long, slot=dict, seat=_Seat)
    cpdef turn(self, double now)
    cdef _run(self, _Seat seat)
    cdef _move(self, _Seat seat, long slot)
