"""Whether a converted model computes, in its own runtime, what the graph computes in TensorFlow.

What a converter loses is not laid at pruning's door: the original goes through the same converter,
and what its model loses against TensorFlow is the measure of what the result may lose.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.analysis.cautions import TOLERANCE, tolerance_of
from graphslim.delivery.formats import Package, Wish
from graphslim.delivery.prepare import Prepared
from graphslim.engines import Runner, open_runner
from graphslim.errors import EmitError, VerifyError
from graphslim.ir import Port
from graphslim.measure.agreement import FAR_DECISIONS, Agreement, lost
from graphslim.measure.fidelity import CLASSES, Measures, OutputDifference, decision_of
from graphslim.measure.models import ACROSS, alike
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.support.progress import Tick
from graphslim.support.text import percent

FACTOR = 4.0
"""The result may lose so many times what the original loses."""
CEILING = 0.05
"""But never more than this share of an output's range: then the converter is wrong."""
HALF = 0.01
"""How much of an output's range weights of 16 bits may cost."""
MOST = 64
"""Examples that are run."""

Side = Tuple[Package, Prepared]
"""A converted model, and the graph that it was made of."""


class Losses(NamedTuple):
    """How far a converted model is from its graph in TensorFlow, and how far the original's is.

    Attributes:
        result: the model against the graph that it was made of.
        original: the same of the original; None where there is none.
        judged: whether there is a bound: int8 models are only told of.
        version: the runtime's name and version.
        notes: what is called otherwise in the file, in sentences.
    """

    result: Agreement
    original: Optional[Agreement]
    judged: bool
    version: str
    notes: Tuple[str, ...] = ()

    @property
    def allowed(self) -> List[float]:
        """For each output the largest difference allowed, as a share of its range.

        It is the tolerance, or four times what the original's own model loses against TensorFlow,
        up to 0.05, whichever is more. A class may be another in 2 % of the cases, and in one.
        """
        outputs = self.result.outputs
        known = [0.0] * len(outputs)
        if self.original is not None:
            known = [output.relative for output in self.original.outputs]
        return [
            max(self.result.tolerance, min(FACTOR * loss, CEILING), self._slack(output))
            if self.judged
            else float(np.finfo(np.float64).max)
            for output, loss in zip(outputs, known)
        ]

    def _slack(self, output: OutputDifference) -> float:
        if output.decision != CLASSES:
            return 0.0
        decisions = self.result.examples * int(np.prod(output.shape[1:]))
        return max(FAR_DECISIONS, 1.0 / max(1, decisions))

    @property
    def refused(self) -> Optional[OutputDifference]:
        """The output that is furthest beyond what is allowed; None where all are within it."""
        beyond = [
            (output.relative - allowed, output)
            for output, allowed in zip(self.result.outputs, self.allowed)
            if not output.relative <= allowed
        ]
        return max(beyond, key=lambda pair: pair[0])[1] if beyond else None

    def as_dict(self) -> Dict[str, Any]:
        """A tree for `--json`."""
        return {
            "runtime": self.version,
            "ok": self.refused is None,
            "judged": self.judged,
            "allowed": self.allowed if self.judged else None,
            "result": self.result.as_dict(),
            "original": None if self.original is None else self.original.as_dict(),
        }

    def sentence(self) -> str:
        """What was found, in one sentence."""
        worst, over = self.result.furthest, f"over {self.result.inputs}"
        if not self.judged:
            text = f"In {self.version}, against TensorFlow, {lost(worst)} {over}"
        else:
            worst = self.result.worst
            allowed = self.allowed[self.result.outputs.index(worst)]
            text = (
                f"In {self.version} it computes what it computes in TensorFlow, within "
                f"{worst.relative:.2g} of the range of {worst.name} {over}; {allowed:.2g} is "
                "allowed"
            )
        if self.original is None:
            return f"{text}."
        first = self.original.outputs[self.result.outputs.index(worst)]
        figure = first.relative if self.judged or first.error is None else first.error
        shown = f"{figure:.2g}" if self.judged else percent(figure)
        return f"{text} (the original, converted alike: {shown})."

    @property
    def caution(self) -> Optional[str]:
        """A caution about a quantised model that lost what matters; None without a reason."""
        if self.judged or not self.result.far:
            return None
        if self.original is not None and self.original.far:
            return (
                "quantised, both the original and the result lose much; float16 or more typical "
                "images for calibration may lose less"
            )
        more = "" if self.original is None else " more than the original does"
        return (
            f"quantised, the result loses much{more}; try --quantize float16, or repair or train "
            "before quantising"
        )


def check(
    result: Side,
    original: Optional[Side],
    wish: Wish,
    *,
    data: Data,
    seed: int,
    batch: int,
    tolerance: Optional[float],
    progress: Tick,
) -> Losses:
    """Runs a converted model in its runtime and its graph in TensorFlow, on the same inputs.

    Args:
        result: the model that is to be delivered.
        original: the original, converted alike: what it loses is allowed.
        wish: how the models were converted.
        data, seed, batch, tolerance, progress: as for `gs.verify`; up to 64 examples are run.

    Raises:
        VerifyError: the runtime refuses the model or fails, or outputs differ in shape.
        GraphslimError: the sample inputs do not fit.
        RuntimeUnavailable: the runtime is not installed.
    """
    sides = [result] if original is None else [result, original]
    path = result[0].path
    is_int8 = wish.quantize == "int8"
    with contextlib.ExitStack() as stack:
        with _disk(path):
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="graphslim-"))
        opened = []
        for number, (package, _) in enumerate(sides):
            name = os.path.basename(os.path.normpath(package.path))
            with _disk(path):
                file = package.put(os.path.join(place, str(number), name))
            with _about(path, is_int8):
                opened.append(stack.enter_context(open_runner(file)))
        graphs = [
            stack.enter_context(open_runner(source.graph, optimize=False)) for _, source in sides
        ]
        notes: List[str] = []
        names = [_matched(runner, graph, notes) for runner, graph in zip(opened, graphs)]
        graph = result[1].graph
        examples = at_most(Examples(graph, Samples(data, batch, progress), seed), MOST)
        measures = [_measures(source, examples.runs) for _, source in sides]
        count = 0
        for feeds, number_of_examples in examples:
            for runner, reference, of, row in zip(opened, graphs, names, measures):
                wanted = reference.run(feeds)
                with _about(path, is_int8):
                    values = runner.run({of[0].get(name, name): feeds[name] for name in feeds})
                    for name, measure in row.items():
                        actual = alike(values[of[1].get(name, name)], wanted[name])
                        measure.add(wanted[name], actual, number_of_examples)
            count += number_of_examples
        version = opened[0].version
    about = examples.about.as_dict()
    allowed = tolerance
    if allowed is None:
        floor = HALF if wish.quantize == "float16" else TOLERANCE if original else ACROSS
        allowed = max(floor, tolerance_of(graph))
    agreements = [
        Agreement(
            tuple([measure.result() for measure in row.values()]),
            allowed,
            "TensorFlow",
            examples=count,
            random=about["kind"] == "random",
            data=about,
        )
        for row in measures
    ]
    return Losses(
        agreements[0],
        agreements[1] if original is not None else None,
        wish.quantize in (None, "float16"),
        version,
        tuple(dict.fromkeys(notes)),
    )


def at_most(examples: Examples, most: int) -> Examples:
    """The examples, or so many of them, spread evenly."""
    wanted = max(1, most // examples.at_once)
    if examples.units <= wanted:
        return examples
    return examples.part(np.linspace(0, examples.units - 1, wanted).astype(np.int64))


def _measures(source: Prepared, runs: int) -> Dict[str, Measures]:
    """Measures by the names of the outputs."""
    measures = {}
    for name, port in source.outputs:
        decision = decision_of(source.graph, Port.parse(port))
        # The tensor that classes are chosen from is no output of the file.
        decision = None if decision is None else decision._replace(source=None)
        measures[name] = Measures(name, runs, decision)
    return measures


def _matched(
    runner: Runner, reference: Runner, notes: List[str]
) -> Tuple[Mapping[str, str], Mapping[str, str]]:
    """By name in the graph, that in the file, of inputs and of outputs that are called otherwise.

    Raises:
        VerifyError: the file has another number of inputs or outputs than the graph.
    """
    pairs: List[Mapping[str, str]] = []
    for kind, expected, actual in (
        ("input", reference.inputs, runner.inputs),
        ("output", reference.outputs, runner.outputs),
    ):
        wanted, names = ([tensor.name for tensor in side] for side in (expected, actual))
        if set(wanted) == set(names):
            pairs.append({})
            continue
        if len(wanted) != len(names):
            raise VerifyError(
                f"the converter left it {len(names)} of {len(wanted)} {kind}s: "
                f"{', '.join(names) or 'none'}",
                os.path.basename(runner.path),
                f"name those that it can have with --{kind}s, or write a .pb",
            )
        pairs.append(dict(zip(wanted, names)))
        notes += [
            f"The {kind} {old} is called {new} in it."
            for old, new in zip(wanted, names)
            if old != new
        ]
    return pairs[0], pairs[1]


@contextlib.contextmanager
def _about(path: str, is_int8: bool) -> Iterator[None]:
    """Tells what goes wrong with a temporary file as of the file that is to be written."""
    try:
        yield
    except VerifyError as error:
        hint = "nothing was written; --no-verify writes it all the same"
        if is_int8:  # ranges that no real input has may be too far apart for its kernels
            hint = "nothing was written; calibrate on typical images, or try --quantize dynamic"
        raise VerifyError(error.what, path, hint) from error


@contextlib.contextmanager
def _disk(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmitError(
            f"cannot be written: {error.strerror or error}",
            path,
            f"the check needs space in {tempfile.gettempdir()}; give it, or --no-verify",
        ) from error


def refuse(losses: Losses, path: str) -> None:
    """Refuses a model that computes something else.

    Raises:
        VerifyError: an output is further off than is allowed.
    """
    output = losses.refused
    if output is None:
        return
    index = losses.result.outputs.index(output)
    allowed, hint = losses.allowed[index], "allow more with --tolerance, or look with --no-verify"
    if losses.original is not None and losses.original.outputs[index].relative > allowed:
        hint = (
            "the original, converted alike, is off by "
            f"{losses.original.outputs[index].relative:.3g}: it is the converter that does not fit "
            "this graph; convert with another TensorFlow, or to another format"
        )
    raise VerifyError(
        f"in {losses.version} it differs by {output.relative:.3g} of the range of {output.name} "
        f"from what it computes in TensorFlow; {allowed:.3g} is allowed",
        path,
        f"nothing was written; {hint}",
    )
