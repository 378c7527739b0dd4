"""`python -P -m agent.cli`: the same as the console script, for an interpreter that is already known."""

from __future__ import annotations

import sys

from agent.cli import main

sys.exit(main())
