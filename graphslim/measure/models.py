"""Models in the runtimes that run their files: compared, and timed in turns.

Graphs, files and folders may be mixed. What is fed comes from the first graph among them; where
there is none, from the inputs that the first file states.
"""

from __future__ import annotations

import contextlib
import os
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np

from graphslim.analysis.cautions import TOLERANCE, tolerance_of
from graphslim.analysis.probe import switches
from graphslim.channels.groups import analyse
from graphslim.engines import RUNTIMES, TITLES, Runner, Tensor, open_runner, runtimes_of
from graphslim.engines.base import Shapes
from graphslim.errors import GraphslimError, VerifyError
from graphslim.graphdef import serialize
from graphslim.ir import Attrs, DType, Graph, Node, Port, Shape
from graphslim.measure.agreement import MASKED, OVER_THE_REST, Agreement
from graphslim.measure.bench import RUNS, WARMUP, Spread, cpu_name, spread, take_turns
from graphslim.measure.fidelity import PROBABILITIES, Decision, Measures, decision_of
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.measure.verify import refuse_random
from graphslim.measure.verify import verify as verify_graphs
from graphslim.plans import Plan
from graphslim.rewrite import zero_consumers
from graphslim.runtime import run_as_shipped, without_onednn
from graphslim.support.progress import Tick, silent

Model = Union[Graph, str, "os.PathLike[str]"]
"""A graph, or the path of what a runtime runs."""

LEAST = 5
"""How often each model is timed at least, where there is little time."""
ACROSS = 1e-3
"""How far two runtimes may be apart by default, as a share of an output's range."""
_SUMS = 0.05
"""By so much probabilities that were quantised may miss a sum of 1."""


class Opening(NamedTuple):
    """How models are opened.

    Attributes:
        runtime: one of `engines.RUNTIMES`, for those models that it runs; None for the runtime that
            each model's format is made for.
        threads: threads within an op; 0 for as many as there are cores.
        shapes: of inputs that a file leaves open, by name; by the empty name for the only one.
    """

    runtime: Optional[str] = None
    threads: int = 1
    shapes: Optional[Shapes] = None


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


class Timed(NamedTuple):
    """A model that was timed.

    Attributes:
        name: its path.
        runtime: one of `engines.RUNTIMES`.
        version: what ran it.
        latency: milliseconds for one run.
        ratio: its time as a share of the first model's, round by round.
        size: bytes of its file or folder; of a graph without one, those of its `.pb`.
    """

    name: str
    runtime: str
    version: str
    latency: Spread
    ratio: Spread
    size: int


class Timings(NamedTuple):
    """Models that were timed in turns.

    Attributes:
        models: the models, as given.
        runs, warmup: how often each was timed, and how often it was run before that.
        threads: threads within an op; 0 for as many as there are cores.
        batch: examples per run.
        cpu: the processor's name.
        notes: what was taken for what where names differ, and the like, in sentences.
    """

    models: Tuple[Timed, ...]
    runs: int
    warmup: int
    threads: int
    batch: int
    cpu: str
    notes: Tuple[str, ...]

    def as_dict(self) -> Dict[str, Any]:
        """A tree for `--json`; times in milliseconds, sizes in bytes."""
        models = [
            {**timed._asdict(), "latency": timed.latency._asdict(), "ratio": timed.ratio._asdict()}
            for timed in self.models
        ]
        return {**self._asdict(), "models": models, "notes": list(self.notes)}


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
            a folder of images), `Images`, or arrays by input name. Without them, and without
            `feeds`, random ones are made up.
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
        runners = opened([first, second], opening, stack, optimize=False)
        graph = graph_of([first, second], runners)
        inputs, notes = _inputs(graph, runners)
        names = [tensor.name for tensor in runners[0].outputs]
        outputs, note = _paired("outputs", names, runners[1].outputs, runners)
        _refuse_unscaled(graph, runners, inputs)
        tell(graph)
        examples = Examples(graph, Samples(data, batch=batch, tick=progress), seed)
        measures: Dict[str, Measures] = {}
        count = 0
        for feeds, number in examples:
            if data is None:
                _limit(feeds, runners, inputs)
            with _as_bad_input():
                given = [runner.run(named(feeds, of)) for runner, of in zip(runners, inputs)]
            for actual, name in outputs.items():
                wanted = given[0][name]
                if name not in measures:
                    decision = _decision(first, name, wanted)
                    measures[name] = Measures(name, examples.runs, decision)
                measures[name].add(wanted, _cast(given[1][actual], wanted.dtype), number)
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


def time_models(
    models: Sequence[Model],
    opening: Opening,
    *,
    batch: int = 1,
    runs: int = RUNS,
    warmup: int = WARMUP,
    seed: int = 0,
    data: Data = None,
    progress: Tick = silent,
    tell: Callable[[Graph], None] = lambda graph: None,
    names: Optional[Sequence[str]] = None,
    seconds: Optional[float] = None,
) -> Timings:
    """Times models in turns on the same inputs, each in the runtime that runs it.

    Args:
        models: the models, the original first.
        opening: how they are opened.
        batch: examples per run, where the models leave that open.
        runs: how often each model is timed.
        warmup: how often each is run before that.
        seed: the seed of random inputs.
        data: sample inputs, of which the first run is timed; by default random inputs.
        progress: called after each round.
        tell: is given the graph that says what is fed, before anything is run.
        names: what the models are called; by default their paths, and the names of graphs.
        seconds: how long it may take about, where that allows five runs of each; by default as long
            as it takes. An old runtime may need seconds for one run of an int8 model.

    Raises:
        GraphslimError: a model cannot be read or does not run, or the inputs do not fit.
        RuntimeUnavailable: a runtime is not installed.
    """
    run_as_shipped()
    with contextlib.ExitStack() as stack:
        runners = opened(models, opening, stack)
        graph = graph_of(models, runners)
        inputs, notes = _inputs(graph, runners)
        tell(graph)
        feeds, number = next(iter(Examples(graph, Samples(data, batch=batch), seed)))
        if batch not in (1, number):
            raise GraphslimError(f"its batch is fixed at {number}", graph.name, "leave out --batch")
        if data is None:
            _limit(feeds, runners, inputs)
        actions: List[Callable[[], Any]] = []
        for runner, of in zip(runners, inputs):
            with _as_bad_input():
                runner.run(named(feeds, of))
                actions.append(runner.prepare(named(feeds, of)))
        if seconds is not None:
            rounds = int(seconds / float(take_turns(actions, 1).sum()))
            runs, warmup = min(runs, max(LEAST, rounds - warmup)), min(warmup, rounds // LEAST)
        milliseconds = take_turns(actions, runs, warmup, progress=progress).T * 1e3
        if any(runner.runtime == "tf" for runner in runners) and without_onednn():
            notes.append("TensorFlow's oneDNN kernels are off.")
        if any(runner.own_threads for runner in runners):
            notes.append("TensorFlow Lite in TensorFlow 1.15 chooses its own number of threads.")
        called = names or [runner.path for runner in runners]
        timed = [
            Timed(
                name,
                runner.runtime,
                runner.version,
                spread(taken),
                spread(taken / milliseconds[0]),
                _size(name, model),
            )
            for name, model, runner, taken in zip(called, models, runners, milliseconds)
        ]
    return Timings(tuple(timed), runs, warmup, opening.threads, number, cpu_name(), tuple(notes))


def opened(
    models: Sequence[Model],
    opening: Opening,
    stack: contextlib.ExitStack,
    optimize: bool = True,
) -> List[Runner]:
    """Opens models, each in its runtime.

    Args:
        models: the models.
        opening: how.
        stack: closes them.
        optimize: whether TensorFlow may rewrite graphs first.

    Raises:
        GraphslimError: a model cannot be read or is refused, or the runtime asked for runs none of
            the models.
        RuntimeUnavailable: a runtime is not installed.
    """
    wish = opening.runtime
    able = [("tf",) if isinstance(model, Graph) else runtimes_of(model) for model in models]
    if wish in RUNTIMES and not any(wish in names for names in able):
        other = " or ".join(dict.fromkeys([name for names in able for name in names]))
        paths = [model.name if isinstance(model, Graph) else os.fspath(model) for model in models]
        raise GraphslimError(
            f"{TITLES[wish]} does not run {' or '.join(dict.fromkeys(paths))}",
            f"--runtime {wish}",
            f"what does: --runtime {other}",
        )
    runners = []
    for model, names in zip(models, able):
        runtime = wish if wish in names or wish not in RUNTIMES else None
        with _as_bad_input():
            runner = open_runner(model, runtime, opening.threads, opening.shapes, optimize)
        runners.append(stack.enter_context(runner))
    return runners


def graph_of(models: Sequence[Model], runners: Sequence[Runner]) -> Graph:
    """The graph that says what is fed: the first one among models, or one made of a file's inputs.

    Sizes that it leaves open are those that the other models state.
    """
    for model in models:
        if isinstance(model, Graph):
            graph = model.copy()
            stated = {name: analyse(model).fact(Port(name)).shape for name in model.inputs}
            break
    else:
        graph = _stand_in(runners[0])
        stated = {tensor.name: tensor.shape for tensor in runners[0].inputs}
    shapes = dict(graph.input_shapes)
    for name, shape in stated.items():
        for runner in runners:
            other = _named(runner.inputs, name, len(stated)).shape
            if shape is None or other is None:
                shape = shape or other
            elif len(shape) == len(other):
                pairs = zip(shape, other)
                shape = tuple([size if size is not None else more for size, more in pairs])
        if shape is not None:
            shapes[name] = shape
    graph.input_shapes = shapes
    return graph


def with_batch(graph: Graph, batch: int) -> Graph:
    """The graph, with a size in the place of an open batch; itself where none is open."""
    shapes = dict(graph.input_shapes)
    for name in graph.inputs:
        shape = analyse(graph).fact(Port(name)).shape
        if shape and shape[0] is None:
            shapes[name] = (batch, *shape[1:])
    if shapes == dict(graph.input_shapes):
        return graph
    fixed = graph.copy()
    fixed.input_shapes = shapes
    return fixed


def _named(tensors: Sequence[Tensor], name: str, count: int) -> Tensor:
    """The tensor of a name, or the only one where only one is looked for; else an open one."""
    alone = list(tensors) if count == len(tensors) == 1 else []
    same = [tensor for tensor in tensors if tensor.name == name]
    return (same or alone or [Tensor(name, None, np.dtype(np.float32))])[0]


def _stand_in(runner: Runner) -> Graph:
    """A graph that is nothing but the inputs of a file, quantised ones as the floats they mean."""
    graph = Graph(runner.path)
    for tensor in runner.inputs:
        dtype = DType.float32 if tensor.scale is not None else _dtype(tensor.dtype)
        graph.add(
            Node(tensor.name, "Placeholder", Attrs({"dtype": dtype, "shape": Shape(tensor.shape)}))
        )
    graph.inputs = [tensor.name for tensor in runner.inputs]
    return graph


def _dtype(dtype: np.dtype) -> DType:
    return DType.string if dtype.hasobject else DType[dtype.name]


def _inputs(graph: Graph, runners: Sequence[Runner]) -> Tuple[List[Dict[str, str]], List[str]]:
    """For each model, by the names of its inputs those of the graph's; and what to say of it."""
    notes: List[str] = []
    pairs = []
    signature = {name: key for key, name in graph.signature.get("inputs", {}).items()}
    for runner in runners:
        names = [signature.get(name, name) for name in graph.inputs]
        optional = [signature.get(name, name) for name in switches(graph)]
        named_inputs, note = _paired("inputs", names, runner.inputs, (graph, runner), optional)
        own = dict(zip(names, graph.inputs))
        pairs.append({name: own[other] for name, other in named_inputs.items()})
        notes += note
    return pairs, notes


def _paired(
    kind: str,
    expected: Sequence[str],
    tensors: Sequence[Tensor],
    sides: Sequence[Any],
    optional: Sequence[str] = (),
) -> Tuple[Dict[str, str], List[str]]:
    """By a model's own names the names in the first; by position where there is only one.

    Args:
        kind: inputs or outputs.
        expected: the names in the first.
        tensors: what the model has.
        sides: what the first is, and the model.
        optional: what the model may lack.

    Raises:
        GraphslimError: the names differ, and there is more than one.
    """
    actual = [tensor.name for tensor in tensors]
    required = [name for name in expected if name not in optional]
    if set(required) <= set(actual) <= set(expected):
        return {name: name for name in actual}, []
    first, second = [getattr(side, "path", getattr(side, "name", "")) for side in sides]
    if len(required) == len(actual) == 1:
        note = f"The only {kind[:-1]} of {second}, {actual[0]}, is taken for {required[0]}."
        return {actual[0]: required[0]}, [note]
    wanted, named = [", ".join(sorted(names)) or "none" for names in (expected, actual)]
    raise GraphslimError(
        f"its {kind} are {named}, and those of {first} are {wanted}",
        second,
        f"these are not two versions of one network; if they are, name the {kind} of both alike "
        "when you convert them",
    )


def named(feeds: Mapping[str, np.ndarray], names: Mapping[str, str]) -> Dict[str, np.ndarray]:
    """Arrays by a model's own names for its inputs.

    Args:
        feeds: by the names of the graph.
        names: by the model's names, those of the graph.
    """
    return {name: feeds[other] for name, other in names.items()}


def _refuse_unscaled(
    graph: Graph, runners: Sequence[Runner], inputs: Sequence[Mapping[str, str]]
) -> None:
    """Refuses integer inputs without a scale where floats would be fed: OpenVINO tells none."""
    for runner, names in zip(runners, inputs):
        for tensor in runner.inputs:
            dtype = graph[names[tensor.name]].attrs.get("dtype")
            is_float = isinstance(dtype, DType) and dtype.is_floating
            if is_float and tensor.scale is None and tensor.dtype.kind in "iu":
                raise GraphslimError(
                    f"{TITLES[runner.runtime]} does not tell which numbers the integers of its "
                    f"input {tensor.name} stand for",
                    runner.path,
                    "compare it in another runtime",
                )


def _limit(
    feeds: Dict[str, np.ndarray], runners: Sequence[Runner], inputs: Sequence[Mapping[str, str]]
) -> None:
    """Takes random numbers into the range that quantised inputs have for them."""
    for runner, names in zip(runners, inputs):
        for tensor in runner.inputs:
            array = feeds[names[tensor.name]]
            if tensor.scale is not None and array.dtype.kind == "f":
                ends = np.array([np.iinfo(tensor.dtype).min, np.iinfo(tensor.dtype).max])
                low, high = tensor.real(ends)
                feeds[names[tensor.name]] = np.clip(array, low, high)


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


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in an element type of the same kind; runtimes count in integers of other sizes."""
    alike = values.dtype.kind == dtype.kind or {values.dtype.kind, dtype.kind} <= set("iu")
    return values.astype(dtype) if alike else values


def _size(path: str, model: Model) -> int:
    """The bytes of a file, or of all in a folder; of a graph without one, those of its `.pb`.

    Args:
        path: where a graph was read from.
        model: the graph, or the path of another model.
    """
    path = path if isinstance(model, Graph) else os.fspath(model)
    if os.path.isdir(path):
        files = [os.path.join(place, name) for place, _, names in os.walk(path) for name in names]
        return sum([os.path.getsize(file) for file in files])
    if isinstance(model, Graph) and not os.path.isfile(path):
        return len(serialize(model))
    return os.path.getsize(path)


@contextlib.contextmanager
def _as_bad_input() -> Iterator[None]:
    """A runtime that refuses a model, or fails: nothing was compared, so it is bad input."""
    try:
        yield
    except VerifyError as error:
        raise GraphslimError(error.what, error.where, error.hint) from error
