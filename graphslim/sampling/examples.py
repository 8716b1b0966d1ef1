"""Sample inputs: from a file, a folder or an array, or made up; handed out run by run."""

from __future__ import annotations

import math
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np

from graphslim.analysis.cautions import Caution
from graphslim.analysis.channels import analyse
from graphslim.errors import GraphslimError
from graphslim.feeds import as_feeds, load_feeds, random_feeds
from graphslim.ir import Graph, Port
from graphslim.progress import Tick, silent

Data = Union[None, str, Mapping[str, np.ndarray]]
"""A path (.npz, .npy, a folder of images), arrays by input name, or None for random inputs."""


class Samples(NamedTuple):
    """What to run a graph on, and where its loss is taken from.

    Attributes:
        data: sample inputs.
        loss_output: for gradients, a tensor (`node` or `node:port`) to take the loss from instead
            of the outputs; see `measure`.
        batch: examples per run, where the graph leaves that open.
        tick: told how many runs are done; see `graphslim.progress`.
    """

    data: Data = None
    loss_output: Optional[str] = None
    batch: int = 1
    tick: Tick = silent


RANDOM_EXAMPLES = 8
"""So many random inputs are made up where no data are given."""


class Examples:
    """Sample inputs of a graph, to be fed a few at a time.

    Each run takes as many examples as the graph has room for: the size of the first axis where it
    is fixed, else `samples.batch`. So more data can be given than the graph takes at once.

    Args:
        graph: the graph.
        samples: where they come from.
        seed: for random ones.

    Raises:
        GraphslimError: the data cannot be read, or do not fit the inputs or each other.
    """

    def __init__(self, graph: Graph, samples: Samples, seed: int = 0) -> None:
        data, self._tick = samples.data, samples.tick
        if isinstance(data, str):
            self.feeds = load_feeds(graph, data, several_runs=True)
        elif data is not None:
            self.feeds = as_feeds(graph, data, "data", several_runs=True)
        else:
            self.feeds = _random(graph, seed)
        sizes = {name: _per_run(graph, name, samples.batch) for name in graph.inputs}
        counts = {
            name: max(1, math.ceil(len(self.feeds[name]) / size))
            for name, size in sizes.items()
            if size is not None and self.feeds[name].ndim
        }
        self.runs = max(counts.values(), default=1)
        self._sizes = {name: size for name, size in sizes.items() if counts.get(name, 1) > 1}
        for name, count in counts.items():
            if count not in (1, self.runs):
                fullest = max(counts, key=lambda one: counts[one])
                raise GraphslimError(
                    f"its array holds {len(self.feeds[name])} examples, that of {fullest!r} "
                    f"{len(self.feeds[fullest])}",
                    f"input {name}",
                    "give as many of each",
                )

    def __iter__(self) -> Iterator[Tuple[Dict[str, np.ndarray], int]]:
        """Run by run: inputs by name, and how many examples they hold."""
        for run in range(self.runs):
            part = dict(self.feeds)
            for name, size in self._sizes.items():
                assert size is not None
                part[name] = self.feeds[name][run * size : (run + 1) * size]
            cut = [part[name] for name in self._sizes] or [*part.values()]
            batched = [array for array in cut if array.ndim]
            yield part, max(1, len(batched[0])) if batched else 1
            self._tick(run + 1, self.runs, "sample inputs")


def _random(graph: Graph, seed: int) -> Dict[str, np.ndarray]:
    """Several draws of what `random_feeds` makes up, one after the other."""
    draws: List[Dict[str, np.ndarray]] = [
        random_feeds(graph, seed + draw) for draw in range(RANDOM_EXAMPLES)
    ]
    return {
        name: np.concatenate([draw[name] for draw in draws]) if first.ndim else first
        for name, first in draws[0].items()
    }


def _per_run(graph: Graph, name: str, batch: int) -> Optional[int]:
    """How many examples an input takes at once; None where it has no axis for them."""
    shape = analyse(graph).fact(Port(name)).shape
    if shape == ():
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
