"""The result of a comparison of two graphs over all outputs and inputs, and texts about it."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.cautions import Caution
from graphslim.measure.fidelity import OutputDifference
from graphslim.support.text import percent, plural

_KINDS = {"random": "random input", "images": "image", "files": "file"}
MASKED = "masked original"
"""The original, which is made to ignore the channels that a plan removes."""
OVER_THE_REST = f"{MASKED}, its norms over the channels that stay"
"""The same, for a plan that takes channels through norms."""
FAR_ERROR = 0.1
"""An error beyond this share of an output's variation causes a caution."""
FAR_DECISIONS = 0.02
"""A larger share of decisions that differ causes a caution."""
FAR_IOU = 0.9
"""A mean intersection over union below this causes a caution: small objects have few pixels."""


class Agreement(NamedTuple):
    """The result of a comparison.

    Attributes:
        outputs: the differences, one for each output.
        tolerance: the largest difference allowed, as a share of each output's range.
        against: the first graph: `original`, or for a given plan `MASKED` or `OVER_THE_REST`.
        nhwc_twins: whether the graphs were turned from NCHW to NHWC to run on a CPU.
        examples: the number of examples.
        random: whether the inputs were random.
        data: the inputs, as `samples.About.as_dict` describes them; None for given feeds.
        unknown_ops: types of ops that TensorFlow cannot run; their inputs were compared instead.
        narrowed: whether only those channels of these inputs were compared that stay, so that
            nothing tells what became of the outputs behind them.
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

    def __str__(self) -> str:
        """What the comparison says, in one sentence."""
        if self.same:
            return f"the outputs are the same, bit for bit, over {self.inputs}"
        apart = f"{percent(self.worst.relative)} of its range over {self.inputs}"
        if self.ok:
            return f"the outputs agree; the worst, {self.worst.name}, within {apart}"
        allowed = f"{percent(self.tolerance)} is allowed"
        return f"the outputs differ; the worst, {self.worst.name}, by up to {apart}, and {allowed}"

    @property
    def ok(self) -> bool:
        """Whether every output is within the tolerance, or as near as rounding lets it be."""
        return all(self._is_near(output) for output in self.outputs)

    def _is_near(self, output: OutputDifference) -> bool:
        return output.relative <= self.tolerance or output.absolute <= output.rounding

    @property
    def same(self) -> bool:
        """Whether every output is the same, bit for bit."""
        return all(output.absolute == 0 for output in self.outputs)

    @property
    def worst(self) -> OutputDifference:
        """The output that is furthest apart, as a share of its range; first of all a wrong one."""
        return max(
            self.outputs,
            key=lambda output: (not self._is_near(output), _or_infinite(output.relative)),
        )

    @property
    def rounded(self) -> bool:
        """Whether some output is outside of the tolerance, but as near as rounding lets it be."""
        return self.ok and any(output.relative > self.tolerance for output in self.outputs)

    @property
    def furthest(self) -> OutputDifference:
        """The output that lost most in its own terms: decisions, else error, else range."""
        return max(self.outputs, key=lambda output: _or_infinite(_loss(output)))

    @property
    def error(self) -> float:
        """The mean over outputs of the error as a share of the variation, or of the range."""
        errors = [
            output.relative if output.error is None else output.error for output in self.outputs
        ]
        return _mean([_or_infinite(error) for error in errors])

    @property
    def decided(self) -> float:
        """The share of decisions that are as before, for pictures the mean IoU; 1 without any."""
        shares = [
            output.agreement if output.mean_iou is None else output.mean_iou
            for output in self.outputs
        ]
        return _mean([1.0 if share is None else share for share in shares])

    def is_better_than(self, other: Agreement) -> bool:
        """Whether a graph is nearer to the original: in error, and no further in its decisions.

        Both are means over the outputs: an output of a few numbers counts as much as a picture.
        """
        return self.error < other.error and self.decided >= other.decided

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
        """The inputs that the graphs were run on, in words: `8 random inputs`."""
        kind = "random" if self.random else (self.data or {}).get("kind", "")
        return plural(self.examples, _KINDS.get(kind, "input"))

    def as_dict(self) -> Dict[str, Any]:
        """A tree for JSON; numbers that are not finite, which JSON cannot hold, are null."""
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
        """Cautions about outputs that a comparison on these inputs tells nothing of."""
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


def _mean(numbers: Sequence[float]) -> float:
    return float(sum(numbers) / max(1, len(numbers)))


def _loss(output: OutputDifference) -> float:
    """How much an output lost, from 0: in decisions, else in error, else in range."""
    if output.agreement is not None:
        return 1 - output.agreement
    return output.relative if output.error is None else output.error


# --- Sentences and tables for those who use the network.

_MEAN = "100 % is what a network would be off by that always gave the mean answer"


def verdict(change: Agreement) -> Tuple[str, str]:
    """How a network changed, in two parts: how much, and the figures of its worst output."""
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
    """The sentence that says that a result lacks nothing but the removed channels."""
    how = (
        "bit for bit"
        if surgery.same
        else f"within {surgery.worst.relative:.2g} of the range of {surgery.worst.name}; "
        f"{surgery.tolerance:g}{' or rounding' if surgery.rounded else ''} is allowed"
    )
    others = ", and takes its norms over the others," if surgery.against == OVER_THE_REST else ","
    start = f"Up to {', '.join(surgery.unknown_ops)}, nothing" if surgery.narrowed else "Nothing"
    return (
        f"{start} else changed: where the original is made to ignore the removed "
        f"channels{others} it computes what the result computes ({how})"
    )


def lost(output: OutputDifference) -> str:
    """A clause about what an output lost, in its own terms."""
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
    """The column heads of a table of outputs; heads of numbers begin with `>`."""
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
