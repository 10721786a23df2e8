"""Alembic's home: `env.py` is run by it, `versions/` has one file for each change of the tables."""
