"""`python -m sipagent`."""

from sipagent.cli import main

if __name__ == "__main__":
    main()
