"""What all tests share."""

from hypothesis import settings

# No per-example deadline: two cores are shared with a real Asterisk. Benchmarks measure time, tests do not.
settings.register_profile("sipagent", deadline=None)
settings.load_profile("sipagent")
