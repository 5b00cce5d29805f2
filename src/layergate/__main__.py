"""`python -m layergate` is the command `layergate`."""

import sys

from layergate.cli import main

sys.exit(main())
