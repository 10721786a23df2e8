"""Logs (and later metrics and traces): subscribers of what happens, never a part of it."""
