"""A realtime voice server in xAI's wire, for the desk without a key, the tests and the load."""
