"""`python -m tfps` is the command `tfps`."""

import sys

from tfps.cli import main

sys.exit(main.main())
