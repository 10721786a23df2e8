"""Asterisk's REST interface: typed events, one socket for events and requests, small handles."""
