"""A criterion of one's own: filters go first whose largest weight is small.

A criterion is a function from what one layer holds for its channels, an array of shape (channels,
weights of each), to one score for each channel; larger is more worth keeping. Use it with

    graphslim prune model.pb -o slim.pb --criterion examples/custom_criterion.py:largest --macs 0.5

It is run on every layer in turn; making the scores of several layers comparable is not its job.
"""

from __future__ import annotations

import numpy as np

import graphslim as gs


@gs.criterion("largest")
def largest(weights: np.ndarray) -> np.ndarray:
    """The largest magnitude among a filter's weights."""
    return np.abs(weights).max(axis=1)
