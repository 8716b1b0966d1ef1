"""Models opened in the runtimes that run their files, and what an input of one is in another.

Graphs, files and folders may be mixed. What is fed comes from the first graph among them; where
there is none, from the inputs that the first file states.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim.analysis.probe import switches
from graphslim.channels.groups import analyse
from graphslim.engines import RUNTIMES, TITLES, Runner, Tensor, open_runner, runtimes_of
from graphslim.engines.base import Shapes
from graphslim.errors import GraphslimError, VerifyError
from graphslim.ir import Attrs, DType, Graph, Node, Port, Shape

Model = Union[Graph, str, "os.PathLike[str]"]
"""A graph, or the path of what a runtime runs."""


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


class Opened(NamedTuple):
    """Models that are open, each in its runtime.

    Attributes:
        runners: what runs each.
        graph: what says what is fed; see `_graph_of`.
        inputs: for each model, by the names of its inputs those of the graph's.
        notes: what was taken for what where names differ, in sentences.
    """

    runners: List[Runner]
    graph: Graph
    inputs: List[Dict[str, str]]
    notes: List[str]

    def limit(self, feeds: Dict[str, np.ndarray]) -> None:
        """Takes random numbers into the range that quantised inputs have for them, in place."""
        for runner, names in zip(self.runners, self.inputs):
            for tensor in runner.inputs:
                array = feeds[names[tensor.name]]
                if tensor.scale is not None and array.dtype.kind == "f":
                    ends = np.array([np.iinfo(tensor.dtype).min, np.iinfo(tensor.dtype).max])
                    low, high = tensor.real(ends)
                    feeds[names[tensor.name]] = np.clip(array, low, high)


def opened(
    models: Sequence[Model],
    opening: Opening,
    stack: contextlib.ExitStack,
    optimize: bool = True,
) -> Opened:
    """Opens models, each in its runtime.

    Args:
        models: the models.
        opening: how.
        stack: closes them.
        optimize: whether TensorFlow may rewrite graphs first.

    Raises:
        GraphslimError: a model cannot be read or is refused, the runtime asked for runs none of
            the models, or their inputs have other names.
        RuntimeUnavailable: a runtime is not installed.
    """
    runners = _runners(models, opening, stack, optimize)
    graph = _graph_of(models, runners)
    return Opened(runners, graph, *_inputs_of(graph, runners))


def _runners(
    models: Sequence[Model], opening: Opening, stack: contextlib.ExitStack, optimize: bool
) -> List[Runner]:
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
        with as_bad_input():
            runner = open_runner(model, runtime, opening.threads, opening.shapes, optimize)
        runners.append(stack.enter_context(runner))
    return runners


def _graph_of(models: Sequence[Model], runners: Sequence[Runner]) -> Graph:
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


def _inputs_of(graph: Graph, runners: Sequence[Runner]) -> Tuple[List[Dict[str, str]], List[str]]:
    """For each model, by the names of its inputs those of the graph's; and what to say of it."""
    notes: List[str] = []
    pairs = []
    signature = {name: key for key, name in graph.signature.get("inputs", {}).items()}
    for runner in runners:
        names = [signature.get(name, name) for name in graph.inputs]
        optional = [signature.get(name, name) for name in switches(graph)]
        named_inputs, note = paired("inputs", names, runner.inputs, (graph, runner), optional)
        own = dict(zip(names, graph.inputs))
        pairs.append({name: own[other] for name, other in named_inputs.items()})
        notes += note
    return pairs, notes


def paired(
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


@contextlib.contextmanager
def as_bad_input() -> Iterator[None]:
    """A runtime that refuses a model, or fails: nothing was compared, so it is bad input."""
    try:
        yield
    except VerifyError as error:
        raise GraphslimError(error.what, error.where, error.hint) from error
