"""`python -m sipagent` and the `sipagent` command: imports what it needs, and ends quietly on Ctrl-C even then."""

import gc
import sys

LOOK_FOR_GARBAGE_AFTER = 20_000
"""So many new objects: what imports make stays, and to look after 700, as is the default, takes 8 % of a start."""


def main() -> None:
    """Entry point."""
    gc.set_threshold(LOOK_FOR_GARBAGE_AFTER)
    try:
        from sipagent.cli import main as cli  # noqa: PLC0415 - half a second, in which Ctrl-C is a traceback elsewhere
    except KeyboardInterrupt:
        sys.exit(130)
    cli()


if __name__ == "__main__":
    main()
