"""What `native.py` does, in C: compiled modules that `cimport native` call these."""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "<arpa/inet.h>":
    uint16_t htons(uint16_t) nogil
    uint32_t htonl(uint32_t) nogil

cdef extern from "<endian.h>":
    uint64_t be64toh(uint64_t) nogil

cdef extern from "<sys/socket.h>":
    ssize_t c_recv "recv"(int fd, void *buffer, size_t size, int flags) nogil
    ssize_t c_send "send"(int fd, const void *buffer, size_t size, int flags) nogil

cdef extern from "<sys/ioctl.h>":
    int ioctl(int fd, unsigned long request, ...) nogil

cdef extern from "<linux/sockios.h>":
    const unsigned long SIOCOUTQNSD

cdef extern from "native.h":
    int g711_rms(const uint8_t *codes, size_t count, int mu_law) nogil


cdef inline bytes receive(int fd):
    cdef char[2048] buffer
    cdef ssize_t size = c_recv(fd, buffer, sizeof(buffer), 0)
    if size < 0:
        PyErr_SetFromErrno(OSError)
    return PyBytes_FromStringAndSize(buffer, size)


cdef inline int send(int fd, bytes datagram) except -1:
    if c_send(fd, PyBytes_AS_STRING(datagram), PyBytes_GET_SIZE(datagram), 0) < 0:
        PyErr_SetFromErrno(OSError)
    return 0


cdef inline int unsent_bytes(int fd) except -1:
    cdef int unsent = 0
    if ioctl(fd, SIOCOUTQNSD, &unsent) < 0:
        PyErr_SetFromErrno(OSError)
    return unsent


cdef inline bytes joined(bytes head, bytes body, bytes tail):
    cdef Py_ssize_t before = PyBytes_GET_SIZE(head), size = PyBytes_GET_SIZE(body), after = PyBytes_GET_SIZE(tail)
    cdef bytes whole = PyBytes_FromStringAndSize(NULL, before + size + after)
    cdef char *at = PyBytes_AS_STRING(whole)
    memcpy(at, PyBytes_AS_STRING(head), before)
    memcpy(at + before, PyBytes_AS_STRING(body), size)
    memcpy(at + before + size, PyBytes_AS_STRING(tail), after)
    return whole


cdef inline put(bytearray memory, Py_ssize_t at, bytes piece):
    memcpy(PyByteArray_AS_STRING(memory) + at, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))


cdef inline int rms(bytes g711, bint mu_law) except -1:
    return g711_rms(<const uint8_t *>PyBytes_AS_STRING(g711), PyBytes_GET_SIZE(g711), mu_law)


cdef inline uint64_t rtp_head(bytes datagram) noexcept:
    cdef uint64_t head
    memcpy(&head, PyBytes_AS_STRING(datagram), sizeof(head))
    return be64toh(head)


cdef inline uint32_t rtp_ssrc(bytes datagram) noexcept:
    cdef uint32_t ssrc
    memcpy(&ssrc, PyBytes_AS_STRING(datagram) + 8, sizeof(ssrc))
    return htonl(ssrc)


cdef inline bytes rtp_packet(
    uint8_t marker_and_type, uint16_t sequence_number, uint32_t timestamp, uint32_t ssrc, bytes payload
):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef bytes packet = PyBytes_FromStringAndSize(NULL, 12 + size)
    cdef char *at = PyBytes_AS_STRING(packet)
    sequence_number, timestamp, ssrc = htons(sequence_number), htonl(timestamp), htonl(ssrc)
    at[0] = <char>0x80
    at[1] = <char>marker_and_type
    memcpy(at + 2, &sequence_number, 2)
    memcpy(at + 4, &timestamp, 4)
    memcpy(at + 8, &ssrc, 4)
    memcpy(at + 12, PyBytes_AS_STRING(payload), size)
    return packet
