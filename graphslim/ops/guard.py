"""Names that rules import, which live in `channels`."""

from __future__ import annotations

from graphslim.channels.facts import LAID_OUT, LONGEST, fits, laid_out
from graphslim.channels.rules import guarded

__all__ = ["LAID_OUT", "LONGEST", "fits", "guarded", "laid_out"]
