"""Names that others import, which live in `analysis.cautions`."""

from __future__ import annotations

from graphslim.analysis.cautions import TOLERANCE, TRAINING, tolerance_of

__all__ = ["TOLERANCE", "TRAINING", "tolerance_of"]
