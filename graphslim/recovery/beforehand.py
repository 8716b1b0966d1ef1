"""What is to be said of images before a repair by them begins, and hours are spent."""

from __future__ import annotations

from typing import List

import numpy as np

from graphslim.analysis.cautions import Caution
from graphslim.ir import Graph
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.measure.shares import BATCH, share_out
from graphslim.measure.verify import compare_on
from graphslim.support.text import plural

FEW = 64
"""A caution is given of fewer images."""
_LOOKED_AT = 32
"""So many images show whether the outputs vary over them."""


def cautions_beforehand(graph: Graph, data: Data, batch: int = BATCH) -> List[Caution]:
    """What images cannot teach: they are few, or outputs of the original hardly vary over them.

    Args:
        graph: the original, which is run on some of them.
        data: the images.
        batch: examples per run, where the graph leaves that open.

    Raises:
        GraphslimError: there are too few images for any repair.
        VerifyError: the graph does not run.
        RuntimeUnavailable: TensorFlow is not there.
    """
    examples = Examples(graph, Samples(data, batch))
    share_out(examples)
    some = examples.drawn(np.random.RandomState(0), _LOOKED_AT)
    return [*few(examples.count), *compare_on(graph, graph, some).cautions()]


def few(images: int) -> List[Caution]:
    """The caution that there are few images; none where there are enough."""
    if images >= FEW:
        return []
    return [
        Caution(
            f"{plural(images, 'image')} are few to repair a network by",
            "some hundred typical ones, without labels, repair more and judge better",
            "--data",
        )
    ]
