"""A test caller: SIPp does the SIP, we do its RTP, so every frame in and out is ours to time and check."""
