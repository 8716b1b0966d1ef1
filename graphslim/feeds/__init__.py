"""Inputs to run graphs on: from files, or made up; what a graph says of the numbers it is fed."""

from __future__ import annotations

from graphslim.feeds.arrays import digest_of, matched
from graphslim.feeds.evidence import Evidence, range_of
from graphslim.feeds.images import Images, Preprocessing, preprocessing_for
from graphslim.feeds.made_up import random_feeds
from graphslim.feeds.pictures import Encoded, Pictures, endings_of, open_files
from graphslim.feeds.shapes import dtype_of, input_shape, switch_array
from graphslim.feeds.strings import cut_behind, decoder_of

__all__ = [
    "Encoded",
    "Evidence",
    "Images",
    "Pictures",
    "Preprocessing",
    "cut_behind",
    "decoder_of",
    "digest_of",
    "dtype_of",
    "endings_of",
    "input_shape",
    "matched",
    "open_files",
    "preprocessing_for",
    "random_feeds",
    "range_of",
    "switch_array",
]
