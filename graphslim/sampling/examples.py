"""Sample inputs: from a file, a folder or an array, or made up; handed out run by run."""

from __future__ import annotations

import math
import os
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np

from graphslim.analysis.cautions import Caution
from graphslim.analysis.channels import analyse
from graphslim.analysis.switches import switches
from graphslim.arrays import read_arrays
from graphslim.errors import GraphslimError
from graphslim.feeds import (
    Encoded,
    Images,
    Pictures,
    decoder_of,
    digest_of,
    dtype_of,
    endings_of,
    matched,
    open_files,
    preprocessing_for,
    random_feeds,
    range_of,
    switch_array,
)
from graphslim.ir import DType, Graph, Port
from graphslim.reading import require_regular
from graphslim.sampling.about import About
from graphslim.support.progress import Tick, silent

Data = Union[None, str, "os.PathLike[str]", Images, Mapping[str, np.ndarray]]
"""A path (.npz, .npy, an image, a folder of images), `Images` of a path with what to do to them,
arrays by input name, or None for random inputs."""

Columns = Dict[str, Union[np.ndarray, Pictures, Encoded]]
"""By input name: all examples, of which slices are taken."""


class Samples(NamedTuple):
    """What to run a graph on, and where its loss is taken from.

    Attributes:
        data: sample inputs.
        loss_output: for gradients, a tensor (`node` or `node:port`) to take the loss from instead
            of the outputs; see `measure`.
        batch: examples per run, where the graph leaves that open.
        tick: told how many runs are done; see `graphslim.support.progress`.
    """

    data: Data = None
    loss_output: Optional[str] = None
    batch: int = 1
    tick: Tick = silent


RANDOM_EXAMPLES = 8
"""So many random inputs are made up where no data are given."""


class Examples:
    """Sample inputs of a graph, to be fed a few at a time, as often as wanted.

    Each run takes as many examples as the graph has room for: the size of the first axis where it
    is fixed, else `samples.batch`. So more data can be given than the graph takes at once. Where
    that size is fixed and the number of examples is no multiple of it, the last ones are left out.
    Images are decoded run by run: no more of them are held than a run takes.

    Args:
        graph: the graph.
        samples: where they come from.
        seed: for random ones.

    Attributes:
        runs: how many runs there are.
        count: how many examples there are in all runs.
        about: what there is to say of them.

    Raises:
        GraphslimError: the data cannot be read, or do not fit the inputs or each other.
    """

    def __init__(self, graph: Graph, samples: Samples, seed: int = 0) -> None:
        self._tick = samples.tick
        self._types = {name: dtype_of(graph[name]).storage for name in graph.inputs}
        fixed = switches(graph)
        self._columns, about = _opened(graph, samples.data, seed)
        fed = {name: value for name, value in fixed.items() if name not in self._columns}
        self._graph, self._switches = graph, fed
        sizes = {
            name: _per_run(graph, name, column, samples.batch)
            for name, column in self._columns.items()
        }
        cautions = list(about.cautions)
        for name, size in sizes.items():
            cautions += self._leave_out(graph, name, size)
        counts = {
            name: max(1, math.ceil(len(self._columns[name]) / size))
            for name, size in sizes.items()
            if size is not None
        }
        self.runs = max(counts.values(), default=1)
        self._sizes = {
            name: size
            for name, size in sizes.items()
            if size is not None and (counts[name] > 1 or not _is_array(self._columns[name]))
        }
        self._check(counts)
        lengths = [len(self._columns[name]) for name in self._sizes or counts]
        self.count = max(1, lengths[0]) if lengths else 1
        self.about = about._replace(
            examples=self.count,
            switches=tuple(fed.items()),
            cautions=tuple(cautions),
        )

    def __iter__(self) -> Iterator[Tuple[Dict[str, np.ndarray], int]]:
        """Run by run: inputs by name, and how many examples they hold."""
        for run in range(self.runs):
            part = {}
            for name, column in self._columns.items():
                size = self._sizes.get(name)
                if size is not None:
                    column = column[run * size : (run + 1) * size]
                part[name] = np.asarray(column).astype(self._types[name], copy=False)
            count = self._examples_in(run, part)
            for name, value in self._switches.items():
                part[name] = switch_array(self._graph, name, value, count)
            yield part, count
            self._tick(run + 1, self.runs, "sample inputs")

    def _examples_in(self, run: int, part: Mapping[str, np.ndarray]) -> int:
        for name, size in self._sizes.items():
            return min(size, len(self._columns[name]) - run * size)
        batched = [array for array in part.values() if array.ndim]
        return max(1, len(batched[0])) if batched else 1

    def _leave_out(self, graph: Graph, name: str, size: Optional[int]) -> List[str]:
        """Shortens an array to a multiple of a fixed batch; says so."""
        column = self._columns[name]
        shape = analyse(graph).fact(Port(name)).shape
        if size is None or not shape or not shape[0] or not len(column) % size:
            return []
        whole = len(column) // size * size
        self._columns[name] = column[:whole]
        return [
            f"the last {len(column) - whole} of {len(column)} examples are left out: the graph "
            f"takes {size} at once"
        ]

    def _check(self, counts: Mapping[str, int]) -> None:
        """Refuses arrays that hold different numbers of examples.

        Raises:
            GraphslimError: there are such.
        """
        fullest = max(counts, key=lambda name: counts[name], default="")
        for name, count in counts.items():
            if count not in (1, self.runs):
                raise GraphslimError(
                    f"its array holds {len(self._columns[name])} examples, that of {fullest!r} "
                    f"{len(self._columns[fullest])}",
                    f"input {name}",
                    "give as many of each",
                )


def _is_array(column: Any) -> bool:
    return isinstance(column, np.ndarray)


def _opened(graph: Graph, data: Data, seed: int) -> Tuple[Columns, About]:
    """The examples by input, and what there is to say of them."""
    if data is None:
        return _random(graph, seed)
    if isinstance(data, Mapping):
        return _given(graph, data, "arrays")
    images = data if isinstance(data, Images) else Images(os.fspath(data))
    images = images._replace(path=os.fspath(images.path))
    if os.path.isdir(images.path):
        return _from_files(graph, images)
    require_regular(images.path, _HINT, GraphslimError)
    if not images.path.lower().endswith(_FILE_ENDINGS):
        images.refuse_options("these are arrays")
        return _given(graph, read_arrays(images.path), images.path)
    return _from_files(graph, images)


_HINT = "give an .npz, an .npy, an image or a folder of images"
_FILE_ENDINGS = (*endings_of(None), *endings_of("DecodeWav"))


def _given(graph: Graph, arrays: Mapping[str, np.ndarray], where: str) -> Tuple[Columns, About]:
    found = matched(graph, arrays, where, list(switches(graph)))
    shapes = tuple([(name, _shape_in_run(graph, name, array)) for name, array in found.items()])
    about = About("arrays", where, 0, lambda: digest_of(list(found.items())), shapes)
    return dict(found), about


def _shape_in_run(graph: Graph, name: str, array: np.ndarray) -> Tuple[int, ...]:
    dims = analyse(graph).fact(Port(name)).shape
    size = (dims[0] if dims else None) or 1
    return (size, *array.shape[1:]) if array.ndim else ()


def _from_files(graph: Graph, images: Images) -> Tuple[Columns, About]:
    """Image files for the one input that takes them."""
    names = [name for name in graph.inputs if name not in switches(graph)]
    if len(names) != 1:
        raise GraphslimError(
            f"the graph has {len(names)} inputs", images.path, "give an .npz with all of them"
        )
    (name,) = names
    shape = analyse(graph).fact(Port(name)).shape
    multiple = (shape[0] or 1) if shape else 1
    if dtype_of(graph[name]) is DType.string:
        decoder = decoder_of(graph, name)
        images.refuse_options("the graph decodes the files itself")
        files = open_files(images, endings_of(decoder), multiple, decoded=False)
        batched = bool(shape) or (shape is None and not _is_scalar(graph, name))
        about = About("files", images.path, 0, lambda: files.sha256, cautions=files.cautions)
        return {name: Encoded(files, batched)}, about
    preprocessing = preprocessing_for(graph, name, images)
    multiple = multiple if preprocessing.layout.batched else 1
    files = open_files(images, endings_of(None), multiple, decoded=True)
    about = About(
        "images",
        images.path,
        0,
        lambda: files.sha256,
        sizes=files.sizes,
        preprocessing=preprocessing,
        cautions=files.cautions,
    )
    return {name: Pictures(files, preprocessing)}, about


def _is_scalar(graph: Graph, name: str) -> bool:
    shape = graph[name].attrs.get("shape")
    return shape is not None and shape.dims == ()


def _random(graph: Graph, seed: int) -> Tuple[Columns, About]:
    """Several draws of what `random_feeds` makes up, one after the other."""
    draws: List[Dict[str, np.ndarray]] = [
        random_feeds(graph, seed + draw) for draw in range(RANDOM_EXAMPLES)
    ]
    fixed = switches(graph)
    names = [name for name in graph.inputs if name not in fixed]
    columns: Columns = {
        name: np.concatenate([draw[name] for draw in draws])
        if draws[0][name].ndim
        else draws[0][name]
        for name in names
    }
    shapes = tuple([(name, draws[0][name].shape) for name in names])
    return columns, About("random", "a seed", 0, shapes=shapes, made_for=_made_for(graph, names))


def _made_for(graph: Graph, names: List[str]) -> str:
    """The ranges of random inputs, and what tells them."""
    found = [range_of(graph, name) for name in names]
    texts = [
        f"{one.low:g}..{one.high:g} ({one.reason or 'assumed: the graph does not say'})"
        for one in found
    ]
    return ", ".join(dict.fromkeys(texts)) or "no numbers"


def _per_run(graph: Graph, name: str, column: Any, batch: int) -> Optional[int]:
    """How many examples an input takes at once; None where it has no axis for them."""
    shape = analyse(graph).fact(Port(name)).shape
    if not _is_array(column) and not column.batched:
        return 1
    if shape == () or (_is_array(column) and not column.ndim):
        return None
    return batch if not shape or not shape[0] else shape[0]


def caution(graph: Graph, data: Data) -> Optional[Caution]:
    """What is to be said of scores that were measured without real data."""
    if data is not None:
        return None
    return Caution(
        f"the scores were measured on {RANDOM_EXAMPLES} random inputs, "
        "which tell little of real ones",
        "give some tens of typical inputs with --data",
        graph.inputs[0] if graph.inputs else graph.name,
    )
