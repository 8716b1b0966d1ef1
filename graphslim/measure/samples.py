"""Sample inputs from a file, a folder or arrays, or random ones, given run by run."""

from __future__ import annotations

import copy
import math
import os
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    Union,
)

import numpy as np

from graphslim.analysis.cautions import Caution
from graphslim.analysis.probe import switches
from graphslim.channels.groups import analyse
from graphslim.errors import GraphslimError
from graphslim.ir import DType, Graph, Port
from graphslim.measure.feeds import decoder_of, digest_of, matched, random_feeds
from graphslim.measure.images import Images, Preprocessing, preprocessing_for
from graphslim.measure.inputs import dtype_of, range_of, switch_array
from graphslim.measure.pictures import Encoded, Pictures, endings_of, misfits, open_files
from graphslim.support.progress import Tick, silent
from graphslim.support.reading import read_arrays, require_regular
from graphslim.support.text import plural
from graphslim.support.workers import Given

Data = Union[None, str, "os.PathLike[str]", Images, Mapping[str, np.ndarray], np.ndarray]
"""A path (.npz, .npy, an image, a folder of images), `Images` of a path with preprocessing options,
arrays by input name, an array for the only input, or None for random inputs."""

Columns = Dict[str, Union[np.ndarray, Pictures, Encoded]]
"""By input name, all examples along the first axis."""

Runs = Iterable[Tuple[Mapping[str, np.ndarray], int]]
"""For each run the arrays by input name, and how many examples they hold."""

RANDOM_EXAMPLES = 8
"""The number of random inputs if no data are given."""
_HINT = "give an .npz, an .npy, an image or a folder of images"
_FILE_ENDINGS = (*endings_of(None), *endings_of("DecodeWav"))


class Samples(NamedTuple):
    """The inputs to run a graph on.

    Attributes:
        data: sample inputs.
        batch: examples per run, where the graph leaves that open.
        tick: called after each run; see `graphslim.support.progress`.
        kept_aside: the seed by which a quarter of them is kept aside, and not looked at where
            channels are chosen; see `graphslim.measure.shares`. None to look at all of them.
        workers: who runs the graph, where its runs can be shared out; None for this process.
        metric: what a loss is, where one is measured, as for `graphslim.sensitivity`; None for that
            of the curves that a plan is made by, or for the error.
        labels: one for each example along the first axis, for metrics that need them.
    """

    data: Data = None
    batch: int = 1
    tick: Tick = silent
    kept_aside: Optional[int] = None
    workers: Given = None
    metric: Optional[str] = None
    labels: Optional[np.ndarray] = None


class About(NamedTuple):
    """A description of sample inputs, for people, for `--json` and for the settings of plans.

    Attributes:
        kind: `random`, `arrays`, `images`, or `files` that the graph decodes itself.
        where: the path, or another source of the data.
        examples: the number of examples.
        digest: returns the SHA-256 of the contents of the files, or of the arrays, which takes a
            while; None for random inputs.
        shapes: pairs of an input and its shape in the smallest run that the graph takes.
        sizes: the number of different sizes of images.
        preprocessing: the preprocessing of images.
        kept_aside: how many examples of the same source are not among these, and by which seed
            they were drawn.
        made_for: for random inputs, the range of their numbers, and where it comes from.
        switches: pairs of an input that switches training and inference, and the value fed.
        cautions: the examples that were left out, one line each.
    """

    kind: str
    where: str
    examples: int = 0
    digest: Optional[Callable[[], str]] = None
    shapes: Tuple[Tuple[str, Tuple[int, ...]], ...] = ()
    sizes: int = 0
    preprocessing: Optional[Preprocessing] = None
    kept_aside: Tuple[int, int] = (0, 0)
    made_for: str = ""
    switches: Tuple[Tuple[str, Union[bool, float]], ...] = ()
    cautions: Tuple[str, ...] = ()

    def lines(self) -> List[str]:
        """Lines to print before the data are used."""
        return [
            f"data: {self._summary()}",
            *[switch_line(name, value) for name, value in self.switches],
            *[f"caution: {text}" for text in self.cautions],
        ]

    def _summary(self) -> str:
        shapes = ", ".join([f"{name} {'x'.join(map(str, shape))}" for name, shape in self.shapes])
        if self.kind == "images":
            of_sizes = "" if self.sizes == 1 else f" of {self.sizes} sizes"
            images = plural(self.examples, "image")
            return f"{images}{of_sizes} from {self.where}, {self.preprocessing}"
        if self.kind == "files":
            return f"{plural(self.examples, 'file')} from {self.where}, which the graph decodes"
        if self.kind == "arrays":
            examples, shaped = plural(self.examples, "example"), shapes or "no shape"
            return f"{examples} from {self.where} as they are ({shaped}, or a larger batch)"
        return f"{plural(self.examples, 'random input')} ({shapes}), {self.made_for}"

    def as_dict(self) -> Dict[str, Any]:
        """A tree that identifies the data by content, for `--json` and the settings of plans."""
        tree: Dict[str, Any] = {
            "kind": self.kind,
            "examples": self.examples,
            "sha256": None if self.digest is None else self.digest(),
        }
        if any(self.kept_aside):
            tree["kept_aside"] = dict(zip(("examples", "seed"), self.kept_aside))
        if self.preprocessing is not None:
            tree["preprocessing"] = self.preprocessing.as_dict()
        if self.switches:
            tree["switches"] = dict(self.switches)
        return tree


def switch_line(name: str, value: Union[bool, float]) -> str:
    """A line about an input that switches between training and inference."""
    why = "inference" if isinstance(value, bool) else "dropout lets everything through"
    return f"input {name} is fed with {value} ({why})"


def caution(graph: Graph, data: Data) -> Optional[Caution]:
    """The caution about scores that were measured without data; None with data."""
    if data is not None:
        return None
    return Caution(
        f"the scores were measured on {RANDOM_EXAMPLES} random inputs, "
        "which tell little of real ones",
        "give some tens of typical inputs with --data",
        graph.inputs[0] if graph.inputs else graph.name,
    )


class Examples:
    """Sample inputs of a graph, run by run; may be iterated over several times.

    Each run takes as many examples as the graph does: the size of the first axis if it is fixed,
    else `samples.batch`. If that size is fixed and the number of examples is no multiple of it, the
    last examples are left out. Images are decoded run by run, so that memory holds those of one run
    only.

    Args:
        graph: the graph.
        samples: the data.
        seed: the seed of random inputs.

    Attributes:
        runs: the number of runs.
        count: the number of examples in all runs.
        at_once: how many examples the graph takes at once where it fixes that, else 1.
        about: a description of the examples.

    Raises:
        GraphslimError: the data cannot be read, or do not fit the inputs or each other.
    """

    def __init__(self, graph: Graph, samples: Samples, seed: int = 0) -> None:
        self._tick, self._graph = samples.tick, graph
        self._types = {name: dtype_of(graph[name]).storage for name in graph.inputs}
        if samples.batch < 1:
            raise GraphslimError("must be 1 or more", "--batch")
        self._columns, self.about = _opened(graph, samples, seed)
        fixed = switches(graph)
        self._switches = {name: fixed[name] for name in fixed if name not in self._columns}
        self._lay_out(samples.batch)

    def _lay_out(self, batch: int) -> None:
        """Divides the examples into runs.

        Raises:
            GraphslimError: two arrays hold different numbers of examples.
        """
        self._batch = batch
        graph, columns, cautions = self._graph, self._columns, list(self.about.cautions)
        sizes, units = {}, {}
        for name in columns:
            size, unit = [_per_run(graph, name, columns[name], number) for number in (batch, 1)]
            if size is not None and unit is not None:
                sizes[name], units[name] = size, unit
                cautions += self._leave_out(name, size)
        counts = {
            name: max(1, math.ceil(len(columns[name]) / size)) for name, size in sizes.items()
        }
        self.runs = max(counts.values(), default=1)
        self._check(counts, sizes)
        self._sizes = {
            name: size
            for name, size in sizes.items()
            if counts[name] > 1 or not isinstance(columns[name], np.ndarray)
        }
        self._units = {name: unit for name, unit in units.items() if len(columns[name]) > unit}
        # Beside an input of images, one that takes a table of fixed size counts no examples.
        counted = max(
            units, key=lambda name: (len(columns[name]) // units[name], -units[name]), default=""
        )
        self.count = len(columns[counted]) if counted else 1
        self.at_once = units.get(counted, 1)
        self._in_run = self._sizes.get(counted, self.count)
        self.about = self.about._replace(
            examples=self.count, switches=tuple(self._switches.items()), cautions=tuple(cautions)
        )

    @property
    def units(self) -> int:
        """How many times as many examples there are as the graph takes at once."""
        return self.count // self.at_once

    def part(self, units: np.ndarray, batch: Optional[int] = None, tick: Tick = silent) -> Examples:
        """Some of the examples, in the order given, as sample inputs of their own.

        Args:
            units: which, int64 of shape (n,): where the graph takes a fixed number at once, unit i
                is the i-th so many; else an example.
            batch: examples per run, where the graph leaves that open; by default as here.
            tick: called after each run.
        """
        part = copy.copy(self)
        part._tick, part._columns = tick, dict(self._columns)
        for name, unit in self._units.items():
            rows = (units[:, None] * unit + np.arange(unit)).ravel()
            part._columns[name] = _picked(self._columns[name], rows)
        part._lay_out(self._batch if batch is None else batch)
        return part

    def drawn(self, rng: np.random.RandomState, most: Optional[int] = None) -> Examples:
        """The examples in a random order, `most` of them at most; where the graph fixes how many it
        takes, units of that keep their order.
        """
        units = rng.permutation(self.units)
        return self.part(units if most is None else units[: max(1, most // self.at_once)])

    def __iter__(self) -> Iterator[Tuple[Dict[str, np.ndarray], int]]:
        """Yields for each run the arrays by input name, and how many examples they hold."""
        return self.starting(0)

    def starting(
        self, first: int, end: Optional[int] = None
    ) -> Iterator[Tuple[Dict[str, np.ndarray], int]]:
        """The runs from a later one on, up to another if there is an end, as when iterated over."""
        for run in range(first, self.runs if end is None else end):
            part = {}
            for name, column in self._columns.items():
                size = self._sizes.get(name)
                if size is not None:
                    column = column[run * size : (run + 1) * size]
                part[name] = np.asarray(column).astype(self._types[name], copy=False)
            count = min(self._in_run, self.count - run * self._in_run)
            for name, value in self._switches.items():
                part[name] = switch_array(self._graph, name, value, count)
            yield part, count
            self._tick(run + 1, self.runs, "sample inputs")

    def _leave_out(self, name: str, size: int) -> List[str]:
        """Shortens an array to a multiple of a fixed batch; returns cautions about that."""
        column = self._columns[name]
        shape = analyse(self._graph).fact(Port(name)).shape
        if not shape or not shape[0] or not len(column) % size:
            return []
        length = len(column) // size * size
        self._columns[name] = column[:length]
        return [
            f"the last {len(column) - length} of {len(column)} examples are left out: the graph "
            f"takes {size} at once"
        ]

    def _check(self, counts: Mapping[str, int], sizes: Mapping[str, int]) -> None:
        """Refuses arrays that hold different numbers of examples.

        Args:
            counts: by input, how many runs its array is enough for.
            sizes: by input, how many examples it takes in a run.

        Raises:
            GraphslimError: two arrays hold different numbers of examples, both more than a run's.
        """
        fullest = max(counts, key=lambda name: counts[name], default="")
        for name, count in counts.items():
            length, most = len(self._columns[name]), len(self._columns[fullest])
            differs = sizes[name] == sizes[fullest] and length != most
            if count != 1 and (count != self.runs or differs):
                raise GraphslimError(
                    f"its array holds {length} examples, that of {fullest!r} {most}",
                    f"input {name}",
                    "give as many of each",
                )


def _picked(column: Any, indices: np.ndarray) -> Any:
    return column[indices] if isinstance(column, np.ndarray) else column.part(indices)


def _per_run(graph: Graph, name: str, column: Any, batch: int) -> Optional[int]:
    """How many examples an input takes at once; None where it has no axis for them."""
    shape = analyse(graph).fact(Port(name)).shape
    is_array = isinstance(column, np.ndarray)
    if not is_array and not column.batched:
        return 1
    if shape == () or (is_array and not column.ndim):
        return None
    return batch if not shape or not shape[0] else shape[0]


def _opened(graph: Graph, samples: Samples, seed: int) -> Tuple[Columns, About]:
    """The examples by input, and their description."""
    data = samples.data
    if data is None:
        return _random(graph, seed, samples.batch)
    if isinstance(data, np.ndarray):
        data = {"": data}
    if isinstance(data, Mapping):
        return _from_arrays(graph, data, "arrays")
    if not isinstance(data, (str, os.PathLike, Images)):
        kind = type(data).__name__
        raise GraphslimError(f"a {kind} is no sample inputs", "data", f"{_HINT}, or arrays")
    images = data if isinstance(data, Images) else Images(os.fspath(data))
    images = images._replace(path=os.fspath(images.path))
    if not os.path.isdir(images.path):
        require_regular(images.path, _HINT, GraphslimError)
        if not images.path.lower().endswith(_FILE_ENDINGS):
            images.refuse_options("these are arrays")
            return _from_arrays(graph, read_arrays(images.path), images.path)
    return _from_files(graph, images)


def _from_arrays(
    graph: Graph, arrays: Mapping[str, np.ndarray], where: str
) -> Tuple[Columns, About]:
    columns = matched(graph, arrays, where, list(switches(graph)))
    shapes = []
    for name, array in columns.items():
        dims = analyse(graph).fact(Port(name)).shape
        size = (dims[0] if dims else None) or 1
        shapes.append((name, (size, *array.shape[1:]) if array.ndim else ()))
    about = About("arrays", where, 0, lambda: digest_of(list(columns.items())), tuple(shapes))
    return dict(columns), about


def _from_files(graph: Graph, images: Images) -> Tuple[Columns, About]:
    """Image files for the only input that is not a switch."""
    names = [name for name in graph.inputs if name not in switches(graph)]
    if len(names) != 1:
        raise GraphslimError(
            f"the graph has {len(names)} inputs", images.path, "give an .npz with all of them"
        )
    (name,) = names
    shape = analyse(graph).fact(Port(name)).shape
    multiple = (shape[0] or 1) if shape else 1
    if dtype_of(graph[name]) is DType.string:
        images.refuse_options("the graph decodes the files itself")
        endings = endings_of(decoder_of(graph, name))
        files = open_files(images, endings, multiple, decoded=False)
        stated = graph[name].attrs.get("shape")
        batched = bool(shape) if shape is not None else stated is None or stated.dims != ()
        column: Union[Encoded, Pictures] = Encoded(files, batched)
        about = About("files", images.path)
    else:
        preprocessing = preprocessing_for(graph, name, images)
        multiple = multiple if preprocessing.layout.batched else 1
        files = open_files(images, endings_of(None), multiple, decoded=True)
        column = Pictures(files, preprocessing)
        about = About(
            "images",
            images.path,
            sizes=files.sizes,
            preprocessing=preprocessing,
            cautions=tuple(misfits(files, preprocessing)),
        )
    cautions = (*files.cautions, *about.cautions)
    return {name: column}, about._replace(digest=lambda: files.sha256, cautions=cautions)


def _random(graph: Graph, seed: int, batch: int) -> Tuple[Columns, About]:
    """Several draws of `random_feeds`, concatenated."""
    draws = [random_feeds(graph, seed + draw) for draw in range(RANDOM_EXAMPLES)]
    fixed = switches(graph)
    columns: Columns = {
        name: np.concatenate([draw[name] for draw in draws]) if first.ndim else first
        for name, first in draws[0].items()
        if name not in fixed
    }
    sizes = {name: _per_run(graph, name, column, batch) for name, column in columns.items()}
    # In a run of several draws for an open batch, an input of a fixed size takes only one.
    runs = min(
        [math.ceil(len(columns[name]) / size) for name, size in sizes.items() if size] or [1]
    )
    for name, size in sizes.items():
        columns[name] = columns[name] if size is None else columns[name][: runs * size]
    ranges = [range_of(graph, name) for name in columns]
    texts = [
        f"{numbers.low:g}..{numbers.high:g} ({numbers.reason or 'assumed: the graph does not say'})"
        for numbers in ranges
    ]
    made_for = ", ".join(dict.fromkeys(texts)) or "no numbers"
    shapes = tuple([(name, draws[0][name].shape) for name in columns])
    return columns, About("random", "a seed", shapes=shapes, made_for=made_for)
