"""Whatever may come from outside, bent and broken: nothing of it may raise through. `python -m bench fuzz --help`."""
