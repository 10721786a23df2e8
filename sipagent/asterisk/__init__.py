"""Getting, configuring and running a real Asterisk from ``asterisk-conf/``."""
