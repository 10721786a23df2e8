cimport cython
from sipagent.barge_in cimport BargeIn
from sipagent.rtp.pacer cimport Wheel
from sipagent.rtp.session cimport RtpSession

cdef int FRAME_BYTES, PTIME_MS, _BYTES_A_MS

cdef class PlayoutQueue:
    cdef public str item_id
    cdef public long overflow_ms
    cdef bytes _silence
    cdef object _pieces
    cdef Py_ssize_t _taken, _queued, _played
    cdef str _open_item

    @cython.locals(queued=Py_ssize_t, frame=bytes)
    cpdef bytes take_frame(self)
    @cython.locals(at=Py_ssize_t, length=Py_ssize_t, item_id=str, piece=bytes, head=bytes)
    cdef bytes _head(self, Py_ssize_t most)

cdef class MediaBridge:
    cdef object __weakref__
    cdef public RtpSession rtp
    cdef public PlayoutQueue queue
    cdef public BargeIn barge_in
    cdef public bint interruptible, held
    cdef public int sealed
    cdef public bytes loop
    cdef public object to_model, tap, on_talk, on_quiet, on_cut, on_resume
    cdef public double spurt_at, agent_voiced_at
    cdef public object _clock
    cdef bytes _silence
    cdef Wheel _wheel
    cdef long _shifted_ms
    cdef object _socket
    cdef bint _talking, _sounding, _told

    @cython.locals(now=double)
    cpdef on_datagram(self, bytes datagram)
    cdef _from_caller(self, bytes payload, double now)
    @cython.locals(now=double, paused=bint, frame=bytes)
    cpdef bint send_frame(self)
