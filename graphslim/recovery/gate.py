"""The gate: which of two graphs is nearer to the original, on images that no stage has seen."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from graphslim.measure.agreement import Agreement
from graphslim.measure.fidelity import OutputDifference


def is_better(agreement: Agreement, before: Agreement) -> bool:
    """Whether a graph is nearer to the original: in error, and not further in what it decides.

    Both are means over the outputs, so that an output of a few numbers counts as much as a picture.
    """
    decides = [_mean([_decided(output) for output in each.outputs]) for each in (agreement, before)]
    return error_of(agreement) < error_of(before) and decides[0] >= decides[1]


def error_of(agreement: Agreement) -> float:
    """The mean over outputs of the error as a share of the variation, or of the range."""
    errors = [
        output.relative if output.error is None else output.error for output in agreement.outputs
    ]
    return _mean([error if np.isfinite(error) else np.inf for error in errors])


def _decided(output: OutputDifference) -> float:
    """The share of decisions that are as before, for pictures the mean IoU; 1 without any."""
    if output.mean_iou is not None:
        return output.mean_iou
    return 1.0 if output.agreement is None else output.agreement


def _mean(numbers: Sequence[float]) -> float:
    return float(sum(numbers) / max(1, len(numbers)))
