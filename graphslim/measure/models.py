"""Models in the runtimes that run their files, compared output by output."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.analysis.cautions import TOLERANCE, tolerance_of
from graphslim.engines import TITLES
from graphslim.engines.base import Shapes
from graphslim.errors import GraphslimError
from graphslim.ir import DType, Graph, Port
from graphslim.measure.agreement import MASKED, OVER_THE_REST, Agreement
from graphslim.measure.fidelity import PROBABILITIES, Decision, Measures, decision_of
from graphslim.measure.opened import (
    Model,
    Opened,
    Opening,
    as_bad_input,
    named,
    opened,
    paired,
)
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.measure.verify import refuse_random
from graphslim.measure.verify import verify as verify_graphs
from graphslim.plans import Plan
from graphslim.rewrite import zero_consumers
from graphslim.support.progress import Tick, silent

ACROSS = 1e-3
"""How far two runtimes may be apart by default, as a share of an output's range."""
_SUMS = 0.05
"""By so much probabilities that were quantised may miss a sum of 1."""


class Comparison(NamedTuple):
    """Two models, compared in the runtimes that run them.

    Attributes:
        agreement: how far each output differs.
        versions: what ran the first and the second.
        notes: what was taken for what where names differ, in sentences.
    """

    agreement: Agreement
    versions: Tuple[str, str]
    notes: Tuple[str, ...]

    def as_dict(self) -> Dict[str, Any]:
        """A tree for `--json`: that of the agreement, with what ran the models."""
        return {
            **self.agreement.as_dict(),
            "runtimes": list(self.versions),
            "notes": list(self.notes),
        }


def verify(
    first: Model,
    second: Model,
    *,
    plan: Optional[Plan] = None,
    data: Data = None,
    feeds: Optional[Mapping[str, np.ndarray]] = None,
    seed: int = 0,
    batch: int = 1,
    tolerance: Optional[float] = None,
    force: bool = False,
    progress: Tick = silent,
    runtime: Optional[str] = None,
    threads: int = 1,
    input_shapes: Optional[Shapes] = None,
) -> Agreement:
    """Runs two models on the same inputs and compares them, output by output.

    Two graphs are run by TensorFlow; NCHW ops without a CPU kernel run as NHWC, and where an output
    needs an op that TensorFlow does not know, what that op reads is compared instead, in those
    channels that the plan leaves. A path (`.tflite`, `.onnx`, `.pb`, a SavedModel's folder) is run
    by the runtime that its format is made for, or by `runtime`.

    Args:
        first: the original.
        second: the model that should compute the same.
        plan: if given, the original, a graph, is run with the weights that read the plan's channels
            set to zero (mask equivalence), which is what a graph pruned by any plan has to compute;
            norms that a plan goes through are taken over the channels that stay.
        data: sample inputs, as for `plan`, all of which are used: a path (.npz, .npy, an image or
            a folder of images), `Images`, arrays by input name, or an array for the only input.
            Without them, and without `feeds`, random ones are made up.
        feeds: for two graphs, by input name, the array for a single run, of the input's shape and
            element type; instead of `data`.
        seed: the seed of random inputs.
        batch: examples per run, where the models leave that open.
        tolerance: the largest difference allowed, as a share of each output's range; by default
            0.0001, 0.004 and 0.03 where a graph computes in float16 and bfloat16, 0.01 where batch
            norms were frozen in the training phase, and no less than 0.001 between two runtimes.
        force: allow a plan that was made for another checkpoint.
        progress: called after each run; see `graphslim.support.progress`.
        runtime: `tf`, `tflite`, `ort` or `openvino`, for those paths that it runs.
        threads: threads within an op; 0 for as many as there are cores.
        input_shapes: sizes of inputs that a path's file leaves open, by name.

    Returns:
        the differences of each output over all inputs.

    Raises:
        VerifyError: outputs differ in shape, a graph does not run, or what it computes is random.
        GraphslimError: the models differ in inputs, outputs or the shapes of those, the sample
            inputs do not fit, both `data` and `feeds` are given, or a runtime refuses a file.
        RuntimeUnavailable: a runtime is not installed.
    """
    given: Dict[str, Any] = dict(plan=plan, data=data, seed=seed, batch=batch, force=force)
    given.update(tolerance=tolerance, progress=progress)
    if isinstance(first, Graph) and isinstance(second, Graph):
        return verify_graphs(first, second, feeds=feeds, threads=threads, **given)
    if feeds is not None:
        raise GraphslimError("single runs are for two graphs", "feeds", "give data instead")
    return compare(first, second, Opening(runtime, threads, input_shapes), **given).agreement


def compare(
    first: Model,
    second: Model,
    opening: Opening,
    *,
    plan: Optional[Plan] = None,
    data: Data = None,
    seed: int = 0,
    batch: int = 1,
    tolerance: Optional[float] = None,
    force: bool = False,
    progress: Tick = silent,
    tell: Callable[[Graph], None] = lambda graph: None,
) -> Comparison:
    """Compares two models in the runtimes that run them; the rest is that of `verify`.

    Args:
        first, second: the models.
        opening: how they are opened.
        plan, data, seed, batch, tolerance, force, progress: as for `verify`.
        tell: is given the graph that says what is fed, before anything is run.
    """
    against = "original"
    if plan is not None:
        against = OVER_THE_REST if plan.through_norms else MASKED
        if not isinstance(first, Graph):
            raise GraphslimError(
                "a plan masks a graph, and this is none", os.fspath(first), "leave out --plan"
            )
        first = zero_consumers(first, plan, force)
    if isinstance(first, Graph):
        refuse_random(first)
    with contextlib.ExitStack() as stack:
        together = opened([first, second], opening, stack, optimize=False)
        runners, graph, inputs, notes = together
        names = [tensor.name for tensor in runners[0].outputs]
        outputs, note = paired("outputs", names, runners[1].outputs, runners)
        _refuse_unscaled(together)
        tell(graph)
        examples = Examples(graph, Samples(data, batch=batch, tick=progress), seed)
        measures: Dict[str, Measures] = {}
        count = 0
        for feeds, number in examples:
            if data is None:
                together.limit(feeds)
            with as_bad_input():
                given = [runner.run(named(feeds, of)) for runner, of in zip(runners, inputs)]
            for actual, name in outputs.items():
                wanted = given[0][name]
                if name not in measures:
                    decision = _decision(first, name, wanted)
                    measures[name] = Measures(name, examples.runs, decision)
                measures[name].add(wanted, alike(given[1][actual], wanted), number)
            count += number
        versions = (runners[0].version, runners[1].version)
    allowed = tolerance_of(first) if isinstance(first, Graph) else TOLERANCE
    if versions[0] != versions[1]:
        allowed = max(allowed, ACROSS)
    about = examples.about.as_dict()
    agreement = Agreement(
        tuple([measures[name].result() for name in names]),
        allowed if tolerance is None else tolerance,
        against,
        examples=count,
        random=about["kind"] == "random",
        data=about,
    )
    return Comparison(agreement, versions, tuple([*notes, *note]))


def _refuse_unscaled(together: Opened) -> None:
    """Refuses integer inputs without a scale where floats would be fed: OpenVINO tells none."""
    for runner, names in zip(together.runners, together.inputs):
        for tensor in runner.inputs:
            dtype = together.graph[names[tensor.name]].attrs.get("dtype")
            is_float = isinstance(dtype, DType) and dtype.is_floating
            if is_float and tensor.scale is None and tensor.dtype.kind in "iu":
                raise GraphslimError(
                    f"{TITLES[runner.runtime]} does not tell which numbers the integers of its "
                    f"input {tensor.name} stand for",
                    runner.path,
                    "compare it in another runtime",
                )


def _decision(first: Model, name: str, values: np.ndarray) -> Optional[Decision]:
    """What an output decides: by structure of a graph, else by values that are probabilities."""
    if isinstance(first, Graph):
        port = Port.parse(first.signature.get("outputs", {}).get(name, name))
        decision = decision_of(first, port)
        return None if decision is None else decision._replace(source=None)
    if values.dtype.kind != "f" or values.ndim < 2 or values.shape[-1] < 2 or not values.size:
        return None
    near = values.min() >= 0 and np.abs(values.sum(-1) - 1).max() <= _SUMS
    return Decision(PROBABILITIES) if near else None


def alike(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values in the element type of others, where both are floats or both integers of any size."""
    kinds = {values.dtype.kind, wanted.dtype.kind}
    same = len(kinds) == 1 or kinds <= set("iu")
    return values.astype(wanted.dtype, copy=False) if same else values
