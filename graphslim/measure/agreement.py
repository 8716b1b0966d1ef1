"""What a comparison of two graphs came to, over all outputs and inputs; and how that is told."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.analysis.cautions import Caution
from graphslim.measure.fidelity import OutputDifference
from graphslim.support.text import percent, plural

_KINDS = {"random": "random input", "images": "image", "files": "file"}
FAR_ERROR = 0.1
"""An error beyond this share of an output's variation is told as a caution."""
FAR_DECISIONS = 0.02
"""So is this share of other decisions."""
FAR_IOU = 0.9
"""So is a mean intersection over union below this: small objects are few pixels."""


class Agreement(NamedTuple):
    """The result of a comparison.

    Attributes:
        outputs: output by output.
        tolerance: what was allowed, as a share of each output's range.
        against: what the first graph was: `original`, or `masked original` for a given plan.
        nhwc_twins: whether what ran was turned from NCHW to NHWC, which a CPU can run.
        examples: over how many examples.
        random: whether the inputs were made up.
        data: what the inputs were, as `samples.About.as_dict` tells it; None for given feeds.
        unknown_ops: types of ops that TensorFlow cannot run; what they read was compared instead.
        narrowed: whether of that only the channels were compared that stay, so that nothing tells
            what became of the outputs behind.
    """

    outputs: Tuple[OutputDifference, ...]
    tolerance: float
    against: str
    nhwc_twins: bool = False
    examples: int = 1
    random: bool = False
    unknown_ops: Tuple[str, ...] = ()
    data: Optional[Mapping[str, Any]] = None
    narrowed: bool = False

    @property
    def ok(self) -> bool:
        """Whether every output is within the tolerance."""
        return all(output.relative <= self.tolerance for output in self.outputs)

    @property
    def same(self) -> bool:
        """Whether every output is the same, bit for bit."""
        return all(output.absolute == 0 for output in self.outputs)

    @property
    def worst(self) -> OutputDifference:
        """The output that is furthest apart, as a share of its range."""
        return max(self.outputs, key=lambda output: _or_infinite(output.relative))

    @property
    def furthest(self) -> OutputDifference:
        """The output that lost most in its own terms: decisions, else error, else range."""
        return max(self.outputs, key=lambda output: _or_infinite(_loss(output)))

    @property
    def far(self) -> bool:
        """Whether an output lost so much that its user has to be warned."""
        return any(
            (output.error is not None and not output.error <= FAR_ERROR)
            or (output.agreement is not None and output.agreement < 1 - FAR_DECISIONS)
            or (output.mean_iou is not None and output.mean_iou < FAR_IOU)
            or (output.error is None and output.relative > FAR_ERROR)
            for output in self.outputs
        )

    @property
    def inputs(self) -> str:
        """What the graphs were run on, in words: `8 random inputs`."""
        kind = "random" if self.random else (self.data or {}).get("kind", "")
        return plural(self.examples, _KINDS.get(kind, "input"))

    def as_dict(self) -> Dict[str, Any]:
        """For JSON, which has no word for a number that is not finite: such a number is null."""
        return {
            "ok": self.ok,
            "tolerance": self.tolerance,
            "against": self.against,
            "nhwc_twins": self.nhwc_twins,
            "examples": self.examples,
            "random_inputs": self.random,
            "unknown_ops": list(self.unknown_ops),
            "data": None if self.data is None else dict(self.data),
            "cautions": [str(caution) for caution in self.cautions()],
            "outputs": [output.as_dict() for output in self.outputs],
        }

    def cautions(self) -> List[Caution]:
        """What a comparison on these inputs cannot tell."""
        hint = "give real inputs with --data" if self.random else "give inputs of more kinds"
        flat = [output.name for output in self.outputs if output.varies is False]
        if not flat:
            return []
        names = flat[0] if len(flat) == 1 else f"{flat[0]} and {len(flat) - 1} more outputs"
        return [
            Caution(
                f"this comparison cannot tell what became of {names}: the original's own values "
                f"hardly differ from input to input over the {self.inputs}",
                f"{hint}; a network without trained weights does the same on any",
                flat[0],
            )
        ]


def _or_infinite(number: float) -> float:
    return np.inf if np.isnan(number) else number


def _loss(output: OutputDifference) -> float:
    """How much an output lost, from 0, in what is said of it first."""
    if output.agreement is not None:
        return 1 - output.agreement
    return output.relative if output.error is None else output.error


# --- What it means for who uses the network, in sentences and in tables.

_MEAN = "100 % is what a network would be off by that always gave the mean answer"


def verdict(change: Agreement) -> Tuple[str, str]:
    """What became of a network, in two parts: how bad it is, and the figure of its worst output."""
    if change.narrowed:
        ops = ", ".join(change.unknown_ops)
        text = f"removed channels entered {ops}, which TensorFlow cannot run"
        return "What became of the outputs is not known", text
    if change.same:
        return "The outputs did not change", f"they are the same bit for bit over {change.inputs}"
    text = f"{lost(change.furthest)} over {change.inputs}"
    if not change.far:
        return "The outputs changed little", text
    return (
        "Caution: the outputs changed much",
        f"{text}; use the result only after training it on, or remove less",
    )


def surgery_verdict(surgery: Agreement) -> str:
    """That nothing but the removed channels is missing from a result."""
    how = (
        "bit for bit"
        if surgery.same
        else f"within {surgery.worst.relative:.2g} of the range of {surgery.worst.name}; "
        f"{surgery.tolerance:g} is allowed"
    )
    start = f"Up to {', '.join(surgery.unknown_ops)}, nothing" if surgery.narrowed else "Nothing"
    return (
        f"{start} else changed: where the original is made to ignore the removed channels, it "
        f"computes what the result computes ({how})"
    )


def lost(output: OutputDifference) -> str:
    """What an output lost, in its own terms; a clause."""
    name, apart = output.name, f"is off by up to {percent(output.relative)} of its range"
    if output.error is not None:
        apart = f"is off by {percent(output.error)} of its variation ({_MEAN})"
    if output.agreement is None:
        return f"{name} {apart}"
    if output.mean_iou is None:
        return f"{name} decides as before in {percent(output.agreement)} of the cases, and {apart}"
    return (
        f"{name} decides {percent(output.agreement)} of the pixels as before (mean intersection "
        f"over union {output.mean_iou:.3g}), and {apart}"
    )


def columns_of(agreement: Agreement) -> List[str]:
    """The heads of a table of outputs; those of numbers begin with `>`."""
    decides = any(output.agreement is not None for output in agreement.outputs)
    pictures = any(output.ious for output in agreement.outputs)
    return [
        "output",
        ">error / variation",
        ">99 % within",
        ">largest / range",
        *([">same decision"] if decides else []),
        *([">mean IoU"] if pictures else []),
    ]


def rows_of(agreement: Agreement) -> List[List[str]]:
    """The rows of a table of outputs, under `columns_of`."""
    columns = len(columns_of(agreement))
    return [
        [
            output.name
            if output.compared_at is None
            else f"{output.name} (numbers of {output.compared_at})",
            "does not vary" if output.varies is False else _share(output.error),
            _share(output.within),
            _share(output.relative),
            _share(output.agreement),
            "" if output.mean_iou is None else f"{output.mean_iou:.3g}",
        ][:columns]
        for output in agreement.outputs
    ]


def _share(part: Optional[float]) -> str:
    return "" if part is None else percent(part)
