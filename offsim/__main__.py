"""`python -m offsim`."""

from offsim.cli import main

if __name__ == "__main__":
    main()
