"""sipagent: a SIP softswitch agent. Asterisk in front, a realtime voice model behind."""

__version__ = "0.1.0"
