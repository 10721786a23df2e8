"""xAI's realtime voice wire: events, the session's rules, the socket."""
