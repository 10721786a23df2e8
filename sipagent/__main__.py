"""`python -m sipagent` and the `sipagent` command: imports what it needs, and ends quietly on Ctrl-C even then."""

import gc
import sys

IMPORTED = 20_000
"""New objects before garbage is looked for: what imports make stays, and the 700 of the default are 8 % of a start."""


def main() -> None:
    """Entry point."""
    gc.set_threshold(IMPORTED)
    try:
        from sipagent.cli import main as cli  # noqa: PLC0415 - half a second, in which Ctrl-C is a traceback elsewhere
    except KeyboardInterrupt:
        sys.exit(130)
    cli()


if __name__ == "__main__":
    main()
