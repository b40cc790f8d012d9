"""The command as `python -m jaxbert.cli` starts it."""

import sys

from jaxbert.cli import main

if __name__ == "__main__":
    sys.exit(main())
