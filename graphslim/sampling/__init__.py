"""Sampling: what channels answer to sample inputs, and how much the outputs depend on it."""

from __future__ import annotations

from graphslim.feeds import Images
from graphslim.sampling.about import About, switch_line
from graphslim.sampling.examples import RANDOM_EXAMPLES, Data, Examples, Samples, caution
from graphslim.sampling.measure import measure
from graphslim.sampling.places import Place, places_of

__all__ = [
    "RANDOM_EXAMPLES",
    "About",
    "Data",
    "Examples",
    "Images",
    "Place",
    "Samples",
    "caution",
    "measure",
    "places_of",
    "switch_line",
]
