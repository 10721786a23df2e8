from sipagent cimport native
from sipagent.rtp.jitter cimport Counters, Timeline

cdef int MARKER

cdef class RtpSession:
    cdef public int payload_type
    cdef public Counters counters
    cdef public Timeline timeline
    cdef unsigned long _ssrc, _sequence_number, _timestamp

    cpdef bytes send(self, bytes payload, bint marker=*)
