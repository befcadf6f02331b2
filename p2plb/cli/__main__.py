"""`python -m p2plb.cli` is `p2plb`."""

import sys

from p2plb.cli import main

sys.exit(main())
