"""RTP: packets, one session per call, the UDP sockets and the clock that paces what the caller hears."""
