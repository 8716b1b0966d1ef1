"""Whether two graphs compute the same: both are run on the same inputs, output by output."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.cautions import random_node
from graphslim.analysis.precision import tolerance_of
from graphslim.errors import VerifyError
from graphslim.feeds import random_feeds
from graphslim.ir import Graph
from graphslim.layout import needs_nhwc, to_nhwc
from graphslim.plans import Plan
from graphslim.rewrite import zero_consumers
from graphslim.runtime import Session, known_part, unknown_ops


class OutputDifference(NamedTuple):
    """How far one output of two graphs is apart.

    Attributes:
        name: the output's port.
        shape: its shape.
        absolute: the largest difference.
        relative: the same as a share of the range of the first graph's output.
        span: that range, max - min (or the largest magnitude, if that is all there is).
    """

    name: str
    shape: Tuple[int, ...]
    absolute: float
    relative: float
    span: float


class Agreement(NamedTuple):
    """The result of a comparison.

    Attributes:
        outputs: output by output.
        tolerance: what was allowed, as a share of each output's range.
        against: what the first graph was: `original`, or `masked original` for a given plan.
        nhwc_twins: whether what ran was turned from NCHW to NHWC, which a CPU can run.
        unknown_ops: types of ops that TensorFlow cannot run; what they read was compared instead.
    """

    outputs: Tuple[OutputDifference, ...]
    tolerance: float
    against: str
    nhwc_twins: bool = False
    unknown_ops: Tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every output is within the tolerance."""
        return all(one.relative <= self.tolerance for one in self.outputs)

    @property
    def worst(self) -> OutputDifference:
        """The output that is furthest apart."""
        return max(
            self.outputs, key=lambda one: one.relative if one.relative == one.relative else np.inf
        )


def verify(
    first: Graph,
    second: Graph,
    *,
    plan: Optional[Plan] = None,
    feeds: Optional[Mapping[str, np.ndarray]] = None,
    seed: int = 0,
    batch: int = 1,
    tolerance: Optional[float] = None,
    force: bool = False,
) -> Agreement:
    """Runs two graphs on the same inputs and compares their outputs.

    A graph that holds NCHW ops without a CPU kernel is run as a twin in NHWC. Where an output
    needs an op that TensorFlow does not know, what that op reads is compared instead.

    Args:
        first: the original.
        second: what should compute the same.
        plan: if given, the original is run with the weights that read the plan's channels set to
            zero (mask equivalence), which is what a graph pruned by any plan has to compute.
        feeds: by input name; by default seeded random data.
        seed: for the random data.
        batch: for the random data, where the batch is open.
        tolerance: largest difference allowed, as a share of each output's range; by default 0.0001,
            and what rounding makes of graphs that compute in 16 bits.
        force: allow a plan that was made for another checkpoint.

    Raises:
        VerifyError: the graphs differ in inputs, outputs or output shapes, one does not run, or
            what they compute is random.
        RuntimeUnavailable: TensorFlow is not there.
    """
    _same_signature(first, second)
    _refuse_random(first)
    reference = first if plan is None else zero_consumers(first, plan, force)
    data = dict(feeds) if feeds is not None else random_feeds(first, seed, batch)
    # By the names of the first: the second may list the same outputs in another order.
    unknown = unknown_ops(first)
    reference, second = known_part(reference), known_part(second)
    fetches = [str(port) for port in reference.outputs]
    results: List[List[np.ndarray]] = []
    for graph in (reference, second):
        # As they stand: TensorFlow's own optimizer takes longer than the run that it is for.
        with Session(runnable(graph), optimize=False) as session:
            results.append(session.run(data, fetches))
    found = [difference(*one) for one in zip(fetches, results[0], results[1])]
    against = "original" if plan is None else "masked original"
    turned = needs_nhwc(reference) or needs_nhwc(second)
    allowed = tolerance_of(first) if tolerance is None else tolerance
    return Agreement(tuple(found), allowed, against, turned, tuple(unknown))


def runnable(graph: Graph) -> Graph:
    """The graph, or its NHWC twin where TensorFlow's CPU kernels do not take its NCHW ops."""
    if not needs_nhwc(graph):
        return graph
    twin = graph.copy()
    to_nhwc(twin)
    return twin


def _same_signature(first: Graph, second: Graph) -> None:
    for what, one, other in (
        ("inputs", first.inputs, second.inputs),
        ("outputs", [str(port) for port in first.outputs], [str(port) for port in second.outputs]),
    ):
        if sorted(one) != sorted(other):
            raise VerifyError(
                f"its {what} are {_names(other)}, and those of {first.name} are {_names(one)}",
                second.name,
                f"name the {what} of both with --{what}",
            )


def _refuse_random(graph: Graph) -> None:
    name = random_node(graph)
    if name is not None:
        raise VerifyError(
            f"its outputs differ from run to run: dropout or noise is left on at {name}",
            graph.name,
            "freeze it for inference to compare it; prune works on it with --no-verify",
        )


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def difference(name: str, first: Any, second: Any) -> OutputDifference:
    """How far two values of one output are apart.

    Raises:
        VerifyError: their shapes or element types differ, or the first is not finite.
    """
    one, other = np.asarray(first), np.asarray(second)
    place = f"output {name}"
    if one.shape != other.shape:
        raise VerifyError(f"has shape {list(other.shape)} instead of {list(one.shape)}", place)
    if one.dtype != other.dtype and not (_is_text(one) and _is_text(other)):
        raise VerifyError(f"is of type {other.dtype} instead of {one.dtype}", place)
    if not one.size:
        return OutputDifference(name, one.shape, 0.0, 0.0, 0.0)
    if one.dtype.kind not in "fiub":
        apart = 0.0 if bool((one == other).all()) else np.inf
        return OutputDifference(name, one.shape, apart, apart, 0.0)
    one, other = one.astype(np.float64), other.astype(np.float64)
    if not np.isfinite(one).all():
        raise VerifyError(
            "is not finite in the original itself", place, "give real data with --data"
        )
    absolute = float(np.abs(one - other).max()) if np.isfinite(other).all() else np.inf
    span = float(one.max() - one.min()) or float(np.abs(one).max()) or 1.0
    return OutputDifference(name, one.shape, absolute, absolute / span, span)


def _is_text(array: np.ndarray) -> bool:
    return array.dtype.kind in "OSU"


def as_dict(agreement: Agreement) -> Dict[str, object]:
    """For `--json`; a difference that is not finite, for which JSON has no word, is null."""
    return {
        "ok": agreement.ok,
        "tolerance": agreement.tolerance,
        "against": agreement.against,
        "nhwc_twins": agreement.nhwc_twins,
        "unknown_ops": list(agreement.unknown_ops),
        "outputs": [
            {
                key: None if isinstance(value, float) and not np.isfinite(value) else value
                for key, value in {**one._asdict(), "shape": list(one.shape)}.items()
            }
            for one in agreement.outputs
        ],
    }
