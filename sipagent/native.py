"""The steps of a packet's way that C takes in a fraction of the time: a system call, a header, a level.

Each stands twice, here and in `native.pxd`. The per-packet modules (those with a .pxd beside them) are compiled where
there is a C compiler (`hatch_build.py`), and then call the one in C; where there is none, they run as they stand and
call these. SIPAGENT_PURE_PYTHON=1 in the environment has them run as they stand, too.
"""

from __future__ import annotations

import audioop  # standard library to 3.12, audioop-lts from 3.13
import fcntl
import os
import struct
from array import array

MAX_DATAGRAM_BYTES = 2048
_RTP_HEAD, _RTP_SSRC = struct.Struct("!Q"), struct.Struct("!8xI")
_RTP_HEADER = struct.Struct("!BBHII")
_RTP_VERSION_2 = 0x80
_SIOCOUTQNSD = 0x894B  # linux/sockios.h
_unsent = array("i", [0])


def receive(fd: int) -> bytes:
    """The next datagram of a socket that does not block; OSError where there is none, or the kernel tells of one."""
    return os.read(fd, MAX_DATAGRAM_BYTES)


def send(fd: int, datagram: bytes) -> None:
    """To the address that the socket is connected to; OSError where the kernel does not take it."""
    os.write(fd, datagram)


def unsent_bytes(fd: int) -> int:
    """What the kernel holds of a TCP stream and the network has not taken (SIOCOUTQNSD); OSError without a socket."""
    fcntl.ioctl(fd, _SIOCOUTQNSD, _unsent)
    return _unsent[0]


def joined(head: bytes, body: bytes, tail: bytes) -> bytes:
    """The three in one."""
    return head + body + tail


def put(memory: bytearray, at: int, piece: bytes) -> None:
    """Over what stands there; the memory keeps its size, so it must reach as far."""
    memory[at : at + len(piece)] = piece


def rms(g711: bytes, mu_law: bool) -> int:
    """RMS of G.711 (A-law unless `mu_law`), 0 to 32768, cut to a whole number."""
    return audioop.rms(audioop.ulaw2lin(g711, 2) if mu_law else audioop.alaw2lin(g711, 2), 2)


def rtp_head(datagram: bytes) -> int:
    """Of an RTP header (12 bytes, or more) the first eight as one number: flags, type, sequence number, timestamp."""
    head: int = _RTP_HEAD.unpack_from(datagram)[0]
    return head


def rtp_ssrc(datagram: bytes) -> int:
    """The last four of those twelve bytes: the SSRC."""
    ssrc: int = _RTP_SSRC.unpack_from(datagram)[0]
    return ssrc


def rtp_packet(marker_and_type: int, sequence_number: int, timestamp: int, ssrc: int, payload: bytes) -> bytes:
    """A packet of RTP version 2 without CSRC and extension (RFC 3550, section 5.1)."""
    return _RTP_HEADER.pack(_RTP_VERSION_2, marker_and_type, sequence_number, timestamp, ssrc) + payload
