"""`python -m queuemon` is the program `queuemon`."""

from queuemon.cli import main

if __name__ == "__main__":
    main()
