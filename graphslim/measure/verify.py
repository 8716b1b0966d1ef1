"""Whether two graphs compute the same: both are run on the same inputs, output by output."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim.analysis.cautions import random_node, tolerance_of
from graphslim.channels.groups import Removal, analyse, as_asked
from graphslim.engines.base import sizes_of
from graphslim.errors import GraphslimError, VerifyError
from graphslim.ir import Graph, Port
from graphslim.layout import needs_nhwc, runnable
from graphslim.measure.agreement import MASKED, OVER_THE_REST, Agreement
from graphslim.measure.fidelity import Measures, decision_of
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.plans import Plan, fit
from graphslim.rewrite import zero_consumers
from graphslim.runtime import Session, known_part, unknown_ops
from graphslim.support.progress import Tick, silent


def verify(
    first: Graph,
    second: Graph,
    *,
    plan: Optional[Plan] = None,
    data: Data = None,
    feeds: Optional[Mapping[str, np.ndarray]] = None,
    seed: int = 0,
    batch: int = 1,
    tolerance: Optional[float] = None,
    force: bool = False,
    progress: Tick = silent,
    threads: int = 1,
) -> Agreement:
    """Runs two graphs on the same inputs and compares them, output by output.

    A graph that holds NCHW ops without a CPU kernel is run as a twin in NHWC. Where an output
    needs an op that TensorFlow does not know, what that op reads is compared instead, in those
    channels that the plan leaves; without a plan, it has to be as wide in both.

    Args:
        first: the original.
        second: the graph that should compute the same.
        plan: if given, the original is run with the weights that read the plan's channels set to
            zero (mask equivalence), which is what a graph pruned by any plan has to compute; norms
            that a plan goes through are taken over the channels that stay.
        data: sample inputs, as for `plan`, all of which are used: a path (.npz, .npy, an image or
            a folder of images), `Images`, arrays by input name, or an array for the only input.
            Without them, and without `feeds`, random ones are made up.
        feeds: by input name, the array for a single run, of the input's shape and element type;
            instead of `data`.
        seed: the seed of random inputs.
        batch: examples per run, where the graph leaves that open.
        tolerance: the largest difference allowed, as a share of each output's range; by default
            0.0001, 0.004 and 0.03 where a graph computes in float16 and bfloat16, and 0.01 where
            batch norms were frozen in the training phase.
        force: allow a plan that was made for another checkpoint.
        progress: called after each run; see `graphslim.support.progress`.
        threads: threads within an op; 0 for as many as there are cores.

    Returns:
        the differences of each output over all inputs.

    Raises:
        VerifyError: outputs differ in shape, a graph does not run, or what it computes is random.
        GraphslimError: the graphs differ in inputs, outputs or the shapes of those, the sample
            inputs do not fit, or both `data` and `feeds` are given.
        RuntimeUnavailable: TensorFlow is not installed.
    """
    if data is not None and feeds is not None:
        raise GraphslimError("the inputs are given twice", "data and feeds", "leave one out")
    _same_signature(first, second)
    refuse_random(first)
    against = "original" if plan is None else _masked(plan)
    reference = first if plan is None else zero_consumers(first, plan, force)
    runs: Runs
    if feeds is None:
        runs = Examples(first, Samples(data, batch=batch, tick=progress), seed)
    else:
        # A run is of as many examples as the first axes agree on.
        sizes = {np.shape(array)[0] for array in feeds.values() if np.ndim(array)}
        runs = [(feeds, max(1, sizes.pop()) if len(sizes) == 1 else 1)]
    entries = _entries(first, reference, plan, force)
    return _compare({against: reference}, second, runs, tolerance, entries, threads)[0]


def check(
    first: Graph,
    second: Graph,
    plan: Plan,
    *,
    data: Data = None,
    seed: int = 0,
    batch: int = 1,
    tolerance: Optional[float] = None,
    force: bool = False,
    progress: Tick = silent,
) -> Tuple[Agreement, Agreement]:
    """Compares a graph pruned by a plan with the masked original and with the original, at once.

    The arguments, and what is raised, are those of `verify`.

    Returns:
        the agreement with the masked original, which shows whether the cut was right, and that
        with the original, which shows how much the network changed.
    """
    _same_signature(first, second)
    refuse_random(first)
    references = {_masked(plan): zero_consumers(first, plan, force), "original": first}
    runs = Examples(first, Samples(data, batch=batch, tick=progress), seed)
    entries = _entries(first, references[_masked(plan)], plan, force)
    surgery, change = _compare(references, second, runs, tolerance, entries)
    return surgery, change


def _masked(plan: Plan) -> str:
    """What the masked original is called."""
    return OVER_THE_REST if plan.through_norms else MASKED


def compare_on(first: Graph, second: Graph, examples: Examples) -> Agreement:
    """Compares two graphs on examples that are open already; else like `verify`."""
    return _compare({"original": first}, second, examples, None, {})[0]


Runs = Union[Examples, Sequence[Tuple[Mapping[str, np.ndarray], int]]]
"""For each run, the arrays by input name and the number of examples."""


class _Entry(NamedTuple):
    """A tensor that is compared since an op reads it that TensorFlow does not know.

    Attributes:
        port: the tensor.
        node, op: who reads it, by name and type.
        gone: by axis, the positions that a plan removes, bool of shape (size,).
    """

    port: Port
    node: str
    op: str
    gone: Mapping[int, np.ndarray]

    def narrowed(self, first: Any, second: Any) -> Any:
        """What the first graph gave, without the channels that the second has lost.

        Raises:
            VerifyError: the shapes differ all the same.
        """
        first, second = np.asarray(first), np.asarray(second)
        if first.shape == second.shape:
            return first
        full = first.shape
        for axis, gone in self.gone.items():
            if first.shape[axis] == len(gone):
                first = np.compress(~gone, first, axis)
        if first.shape != second.shape:
            raise VerifyError(
                f"TensorFlow does not know the op {self.op} of {self.node}, and what enters it "
                f"has shape {list(second.shape)} instead of {list(full)}",
                str(self.port),
                "give the plan that the graph was pruned by, load the library that has the op into "
                "TensorFlow, or prune with --no-verify",
            )
        return first


def _entries(
    first: Graph, reference: Graph, plan: Optional[Plan], force: bool
) -> Dict[str, _Entry]:
    """By port, what is compared of the first graph since ops read it that TensorFlow lacks.

    Args:
        first: the original.
        reference: what is run in its place.
        plan: what the second graph was pruned by, if it was.
        force: whether the plan may have been made for another checkpoint.
    """
    unknown = set(unknown_ops(reference))
    if not unknown:
        return {}
    channels = analyse(first if plan is None else as_asked(first, plan))
    removal = None if plan is None else Removal(channels, fit(first, plan, force).removed)
    entries = {}
    for port in known_part(reference).outputs:
        readers = [reference[use.node] for use in reference.uses_of(port)]
        readers = [node for node in readers if node.op in unknown]
        if port in reference.outputs or not readers:
            continue
        ids = enumerate(channels.fact(port).ids if removal is not None else ())
        gone = {axis: removal.of(of) for axis, of in ids if removal is not None and of is not None}
        entries[str(port)] = _Entry(port, readers[0].name, readers[0].op, gone)
    return entries


def _compare(
    references: Mapping[str, Graph],
    second: Graph,
    runs: Runs,
    tolerance: Optional[float],
    entries: Mapping[str, _Entry],
    threads: int = 1,
) -> List[Agreement]:
    """Runs all graphs on the same inputs, and compares the second with each of the references.

    Args:
        references: by name, such as `original`, the graphs to compare with.
        second: the graph that should compute the same.
        runs: the inputs.
        tolerance: largest difference allowed, as a share of each output's range; or None.
        entries: tensors that are compared in the place of outputs, as `_entries` gives them.
        threads: threads within an op; 0 for as many as there are cores.
    """
    original = next(iter(references.values()))
    allowed = tolerance_of(original) if tolerance is None else tolerance
    parts = [known_part(graph) for graph in (*references.values(), second)]
    # By the names of the first: the second may list the same outputs in another order.
    outputs, graphs = parts[0].outputs, [runnable(part) for part in parts]
    about = runs.about if isinstance(runs, Examples) else None
    number = runs.runs if isinstance(runs, Examples) else len(runs)
    measures = [measures_of(graphs, outputs, number) for _ in references]
    sources = [measure.source for measure in measures[0]]
    fetches = [str(port) for port in (*outputs, *filter(None, sources))]
    examples = 0
    with ExitStack() as stack:
        # Without TensorFlow's own optimizer, which takes longer than the runs.
        sessions = [
            stack.enter_context(Session(graph, threads, optimize=False)) for graph in graphs
        ]
        for feeds, count in runs:
            *expected, values = [session.run(feeds, fetches) for session in sessions]
            for row, reference in zip(measures, expected):
                pairs = dict(zip(fetches, zip(reference, values)))
                for name, entry in entries.items():
                    wide, narrow = pairs[name]
                    pairs[name] = entry.narrowed(wide, narrow), narrow
                for measure, port, source in zip(row, outputs, sources):
                    measure.add(*pairs[str(port)], count, pairs.get(str(source)))
            examples += count
    data = None if about is None else about.as_dict()
    return [
        Agreement(
            tuple([measure.result() for measure in row]),
            allowed,
            against,
            needs_nhwc(part) or needs_nhwc(parts[-1]),
            examples,
            data is not None and data["kind"] == "random",
            tuple(unknown_ops(original)),
            data,
            any(gone.any() for entry in entries.values() for gone in entry.gone.values()),
        )
        for row, against, part in zip(measures, references, parts)
    ]


def measures_of(graphs: Sequence[Graph], outputs: Sequence[Port], runs: int) -> List[Measures]:
    """Measures for the outputs; of classes at what they are chosen from, if all graphs have that.

    Args:
        graphs: those that are compared, the first one the original.
        outputs: the outputs.
        runs: how many runs there will be.
    """
    measures = []
    for output in outputs:
        decision = decision_of(graphs[0], output)
        if decision is not None and decision.source is not None:
            source = decision.source
            shapes = [
                analyse(graph).fact(source).shape if source.node in graph else None
                for graph in graphs
            ]
            if shapes[0] is None or any(shape != shapes[0] for shape in shapes):
                decision = decision._replace(source=None)
        measures.append(Measures(str(output), runs, decision))
    return measures


def _same_signature(first: Graph, second: Graph) -> None:
    """Refuses two graphs that are not of one network.

    Raises:
        GraphslimError: the graphs differ in inputs, in outputs, or in the shapes of those.
    """
    for kind, names, changed_names in (
        ("inputs", first.inputs, second.inputs),
        ("outputs", [str(port) for port in first.outputs], [str(port) for port in second.outputs]),
    ):
        if sorted(names) != sorted(changed_names):
            expected, actual = (", ".join(listed) or "none" for listed in (names, changed_names))
            raise GraphslimError(
                f"its {kind} are {actual}, and those of {first.name} are {expected}",
                second.name,
                f"these are not two versions of one network; if they are, name the {kind} of both "
                f"with --{kind}",
            )
        for name in names:
            port = Port.parse(name)
            shapes = [analyse(graph).fact(port).shape for graph in (first, second)]
            if not _may_be_equal(*shapes):
                expected, actual = map(sizes_of, shapes)
                raise GraphslimError(
                    f"its {kind[:-1]} {name} has the shape [{actual}], and that of "
                    f"{first.name} [{expected}]",
                    second.name,
                    "compare two versions of one network",
                )


def _may_be_equal(first: Any, second: Any) -> bool:
    """Whether two shapes may be the same, where unknown sizes equal any size."""
    if first is None or second is None:
        return True
    pairs = zip(first, second)
    return len(first) == len(second) and all(a is None or b is None or a == b for a, b in pairs)


def refuse_random(graph: Graph) -> None:
    """Refuses a graph whose outputs differ from run to run.

    Raises:
        VerifyError: dropout or noise is left on.
    """
    name = random_node(graph)
    if name is not None:
        raise VerifyError(
            f"its outputs differ from run to run: dropout or noise is left on at {name}",
            graph.name,
            "freeze it for inference to compare it; prune works on it with --no-verify",
        )
