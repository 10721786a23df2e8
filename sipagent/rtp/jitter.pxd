cimport cython
from sipagent cimport native

cdef int FRAME_BYTES, HEADER_BYTES
cdef double _JITTER_GAIN, _SAMPLE_S, _TICK_S
cdef unsigned long long _NEXT_NUMBER
cdef long long _NOT_PLAIN

cdef class Counters:
    cdef public long received, comfort_noise, duplicate, late, stray, wrong_payload_type, malformed, foreign
    cdef public long lost, loss_runs, skipped, reordered, resynced
    cdef public long concealed_ticks, muted_ticks, paused_ticks, inserted_ticks, sent

cdef class Timeline:
    cdef public Counters counters
    cdef object _payload_type, _law, _next_number, _next_ts, _due_ts, _order_buffer_s, _patience_s
    cdef public list _waiting
    cdef dict _given_up
    cdef object _stray, _lent, _suspected
    cdef bytes _last
    cdef unsigned long long _expected
    cdef long long _expected_ssrc, _ssrc
    cdef double _jitter_s, _due, _quiet_s

    @cython.locals(size=Py_ssize_t, head=cython.ulonglong, off_s=double, payload=bytes)
    cpdef object take(self, bytes datagram, double now)
    cpdef object tick(self, double now)
