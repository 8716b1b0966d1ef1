"""What a repair came to, compared with the original, and what its images cannot tell."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.analysis.cautions import Caution
from graphslim.ir import Graph
from graphslim.measure.agreement import Agreement
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.measure.shares import BATCH, share_out
from graphslim.measure.verify import compare_on
from graphslim.recovery.distillation import Point
from graphslim.recovery.least_squares import Fitted
from graphslim.support.text import plural

FEW = 64
"""A caution is given of fewer images."""
_LOOKED_AT = 32
"""So many images show whether the outputs vary over them."""


class Stage(NamedTuple):
    """What a stage of a repair came to.

    Attributes:
        name: `least-squares` or `distillation`; of rounds also `removal`, what is left of the
            network when the channels of a round have gone.
        kept: whether its result was kept.
        after: its result compared with the original, on the images for the gate.
        seconds: what it took.
        layers: the layers that least squares fitted.
        curve: the loss over the images for tuning, as distillation went on.
        note: a sentence about how it went; empty if there is nothing to say.
        round: the number of the round that it belongs to; 0 where there are none.
    """

    name: str
    kept: bool
    after: Agreement
    seconds: float
    layers: Tuple[Fitted, ...] = ()
    curve: Tuple[Point, ...] = ()
    note: str = ""
    round: int = 0

    @property
    def title(self) -> str:
        """What people read: the name, behind the number of the round where there are rounds."""
        return f"round {self.round}: {self.name}" if self.round else self.name


class Repaired(NamedTuple):
    """The outcome of a repair.

    Attributes:
        graph: the repaired graph: the nodes and shapes of the graph that was given.
        before: that graph compared with the original, on the images for the gate.
        stages: what was done.
        images: how many images there were for training, tuning and the gate.
        left: by constant with weights that were left as they are, a clause that says why.
        settings: seed, steps and seconds, and what the images are.
        image_cautions: images that are not like those of training, or that chose the plan.
    """

    graph: Graph
    before: Agreement
    stages: Tuple[Stage, ...]
    images: Tuple[int, int, int]
    left: Mapping[str, str]
    settings: Mapping[str, Any]
    image_cautions: Tuple[Caution, ...] = ()

    @property
    def after(self) -> Agreement:
        """The repaired graph compared with the original, on the images for the gate."""
        return next((stage.after for stage in self.stages[::-1] if stage.kept), self.before)

    def cautions(self) -> List[Caution]:
        """What the images cannot tell."""
        return [*_few(sum(self.images)), *self.image_cautions, *self.before.cautions()]

    def as_dict(self) -> Dict[str, Any]:
        """A tree for `--json` and for the settings of plans."""
        return {
            **self.settings,
            "images": dict(zip(("training", "tuning", "gate"), self.images)),
            "before": losses(self.before),
            "after": losses(self.after),
            "stages": [
                {
                    **({"round": stage.round} if stage.round else {}),
                    "name": stage.name,
                    "kept": stage.kept,
                    "seconds": round(stage.seconds, 3),
                    "after": losses(stage.after),
                    "layers": [_finite(layer._asdict()) for layer in stage.layers],
                    "curve": [_finite(point._asdict()) for point in stage.curve],
                }
                for stage in self.stages
            ],
            "left_as_they_are": dict(self.left),
            "cautions": [str(caution) for caution in self.cautions()],
        }


def _finite(tree: Mapping[str, Any]) -> Dict[str, Any]:
    """A tree without numbers that are not finite, which JSON cannot hold: these are null."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in tree.items()
    }


def losses(agreement: Agreement) -> Dict[str, Dict[str, Optional[float]]]:
    """By output, the figures by which a repair is judged, for JSON."""
    return {
        output.name: {
            key: output.as_dict()[key] for key in ("error", "relative", "agreement", "mean_iou")
        }
        for output in agreement.outputs
    }


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
    return [*_few(examples.count), *compare_on(graph, graph, some).cautions()]


def _few(images: int) -> List[Caution]:
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
