cimport cython
from sipagent cimport native
from sipagent.ring cimport Ring

cdef int QUIET_RMS, REARM_MS, _BYTES_A_MS, _ECHO_MEMORY_FRAMES
cdef double _FLOOR_UP

cdef class BargeIn:
    cdef public object voiced_at, onset_at, paused_at
    cdef public int rejected
    cdef object _law, _settings
    cdef Ring _sent
    cdef int[30] _sent_rms
    cdef list _loud
    cdef double _above_noise, _echo_share, _floor
    cdef int _oldest_sent, _loudest_sent, _loud_ms, _pitched_ms, _quiet_ms
    cdef bint _mu_law, _deaf, _enabled

    @cython.locals(level=int)
    cpdef bint agent(self, bytes frame)
    cpdef silence(self, bytes frame)
    @cython.locals(level=int, span_ms=int, loud=bint)
    cpdef object caller(self, bytes payload, double now, bint talking)
    @cython.locals(at=int, forgotten=int, one=int)
    cdef _note_sent(self, bytes frame, int level)
    cdef object _on_loud(self, bytes payload, int span_ms, double now)
    cdef object _on_quiet(self, double now)
    cdef _forget(self)
    cdef _forget_sound(self)
    cdef double _echo_rms(self)
