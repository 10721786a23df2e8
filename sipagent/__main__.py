"""`python -m sipagent` and the `sipagent` command: imports what it needs, and ends quietly on Ctrl-C even then."""

import sys


def main() -> None:
    """Entry point."""
    try:
        from sipagent.cli import main as cli  # noqa: PLC0415 - half a second, in which Ctrl-C is a traceback elsewhere
    except KeyboardInterrupt:
        sys.exit(130)
    cli()


if __name__ == "__main__":
    main()
