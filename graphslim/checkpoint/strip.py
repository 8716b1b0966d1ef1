"""Stripping: a plan's channels cut from a checkpoint, its MetaGraph and its inference graph."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from graphslim import runtime
from graphslim.analysis.cautions import TOLERANCE, tolerance_of
from graphslim.analysis.dead import constants_of, consumers_of, find_dead
from graphslim.analysis.values import Values
from graphslim.checkpoint.files import PLAN, write_bytes, write_state, write_text
from graphslim.checkpoint.fitting import Fitting, Places, fitting, folded, places, with_values
from graphslim.checkpoint.model import Trained
from graphslim.checkpoint.narrow import Narrowed, narrow
from graphslim.checkpoint.soft import Summary, pruned_values, summary_of, summary_tree
from graphslim.errors import PlanError, VerifyError
from graphslim.graphdef import serialize
from graphslim.graphdef.load import refusing_misfits
from graphslim.graphdef.meta_graph import keys_of, with_graph
from graphslim.ir import Graph, Tensor
from graphslim.measure.agreement import Agreement
from graphslim.measure.verify import verify
from graphslim.plans import DEAD_BELOW, Plan
from graphslim.plans.make import folds_of
from graphslim.rewrite import apply
from graphslim.rewrite.save import save
from graphslim.runtime import write_checkpoint
from graphslim.runtime.library import first_line, unoptimized
from graphslim.support.text import plural
from graphslim.support.writing import check_folder, replacing_folder

SUMMARY = "summary.json"
CLOSE = 1e-5
"""Largest difference allowed where every filter removed is zero, as a share of the range."""
_LISTED = 6
"""Convolutions, and channels of each, that a refusal lists."""


class Stripped(NamedTuple):
    """The result of stripping.

    Attributes:
        prefix: of the new checkpoint.
        graph_path: of the frozen graph.
        plan: the plan in the names of the checkpoint, with the folds that were made.
        summary: the failed rate before the cut.
        before, after: the inference graphs before and after the cut.
        agreement: how far the outputs of the two differ; where removed channels were not zero, the
            weights that read them are zero in the graph before.
        change: how far the outputs differ from those of the unchanged graph before; None where all
            removed channels were zero or folded.
    """

    prefix: str
    graph_path: str
    plan: Plan
    summary: Summary
    before: Graph
    after: Graph
    agreement: Agreement
    change: Optional[Agreement]


def strip(trained: Trained, plan: Plan, folder: Any, **options: bool) -> Stripped:
    """Cuts a plan's channels from a checkpoint, and writes the smaller one.

    Arguments and errors are those of `stripping`.
    """
    with stripping(trained, plan, folder, **options) as stripped:
        return stripped


@contextlib.contextmanager
def stripping(
    trained: Trained,
    plan: Plan,
    folder: Any,
    *,
    allow_unconverged: bool = False,
    fold: bool = False,
    write_meta: bool = True,
    force: bool = False,
) -> Iterator[Stripped]:
    """Cuts a plan's channels from a checkpoint.

    A context manager: the folder appears when the block ends, and only if it raises nothing.

    Args:
        trained: the checkpoint, softly pruned by the plan and retrained.
        plan: the plan.
        folder: the folder to write: the checkpoint, its MetaGraph and the frozen graph (`.pb`)
            under the checkpoint's old name, the state file that `tf.train.latest_checkpoint` reads,
            `plan.json` and `summary.json`.
        allow_unconverged: cut channels that are not zero too, whatever that does to the outputs.
        fold: cut channels that are constant too, and add the constants to the offsets behind.
        write_meta: write the MetaGraph too.
        force: allow a folder that is not empty.

    Raises:
        PlanError: the plan does not fit, or cuts one variable in two ways.
        VerifyError: channels are not zero; or the smaller network does not compute the same, or
            TensorFlow refuses it. Nothing is written then.
        EmitError: the folder cannot be written.
        RuntimeUnavailable: TensorFlow is not installed.
    """
    target, name = os.fspath(folder), os.path.basename(trained.prefix)
    check_folder(target, force)
    fitted = fitting(trained, plan)
    summary = summary_of(trained, fitted)
    if summary.failed and not (allow_unconverged or fold):
        raise _unconverged(trained, summary)
    fitted = _with_folds(trained, fitted) if fold else fitted
    offsets = folded(trained, fitted)
    bare = fitted.plan._replace(folds=())
    after = apply(with_values(trained.graph, offsets), bare, force=True)
    agreement = _compared(trained.graph, after, bare, fold, summary)
    change = None if fold or not summary.failed else verify(trained.graph, after)
    slim = cut_checkpoint(trained, places(bare), offsets, write_meta)
    with replacing_folder(target, force) as fresh:
        _write(slim, os.path.join(fresh, name), after, fitted.plan, summary)
        if slim.meta is not None:
            check_restores(os.path.join(fresh, name))
        prefix, before = os.path.join(target, name), trained.graph
        files = (prefix, prefix + ".pb")
        yield Stripped(*files, fitted.plan, summary, before, after, agreement, change)


def _write(slim: Slim, prefix: str, graph: Graph, plan: Plan, summary: Summary) -> None:
    """Writes every file of the folder."""
    folder, name = os.path.split(prefix)
    write_checkpoint(prefix, slim.values)
    if slim.meta is not None:
        write_bytes(prefix + ".meta", slim.meta)
    save(graph, prefix + ".pb")
    write_state(folder, name)
    write_text(os.path.join(folder, PLAN), plan.to_json())
    text = json.dumps(summary_tree(summary), indent=1, allow_nan=False) + "\n"
    write_text(os.path.join(folder, SUMMARY), text)


def _with_folds(trained: Trained, fitted: Fitting) -> Fitting:
    """The plan with folds for its channels that are constant but not zero.

    Raises:
        VerifyError: a channel that is to go is not constant.
    """
    channels, removed = fitted.channels, fitted.removed
    consumers = consumers_of(channels, Values(trained.graph, channels, DEAD_BELOW), DEAD_BELOW)
    alive = removed & ~find_dead(channels, consumers, removed)
    if alive.any():
        by_id = {group.id: group for group in channels.groups}
        lines: List[Tuple[str, Tuple[int, ...]]] = []
        for planned in fitted.plan.groups:
            missed = np.flatnonzero(alive[by_id[planned.id].channels])
            if len(missed):
                lines.append((planned.block or planned.id, tuple(missed.tolist())))
        raise VerifyError(
            f"{plural(int(alive.sum()), 'channel')} of the plan would be missed: neither zero nor "
            f"a constant that can be folded: {_listed(lines)}",
            trained.prefix,
            "retrain, or cut them all the same with --allow-unconverged",
        )
    folds = tuple(folds_of(constants_of(consumers, removed)))
    return fitted._replace(plan=fitted.plan._replace(folds=folds))


def _unconverged(trained: Trained, summary: Summary) -> VerifyError:
    lines = [
        (f"{layer.block}: {layer.convolution}", layer.channels) for layer in summary.unconverged
    ]
    return VerifyError(
        f"{summary.failed} of the {summary.of} filters to be cut are not zero: {_listed(lines)}",
        trained.prefix,
        "soft-prune and retrain again; or cut them all the same with --allow-unconverged, or those "
        "whose channels are constant with --fold",
    )


def _listed(lines: List[Tuple[str, Tuple[int, ...]]]) -> str:
    """Some of the channels, and how many more there are."""
    texts = []
    for name, channels in lines[:_LISTED]:
        more = len(channels) - _LISTED
        text = ", ".join(map(str, channels[:_LISTED])) + (f" and {more} more" if more > 0 else "")
        texts.append(f"{name} {text}")
    more = len(lines) - _LISTED
    return "; ".join(texts) + (f"; and {more} more places" if more > 0 else "")


def _compared(before: Graph, after: Graph, plan: Plan, fold: bool, summary: Summary) -> Agreement:
    """Compares the inference graphs; if removed channels were not zero, their readers are masked.

    Raises:
        VerifyError: the narrower graph does not compute what it has to.
    """
    tolerance = tolerance_of(before)
    if tolerance == TOLERANCE and not summary.failed:
        tolerance = CLOSE
    masked = plan if summary.failed and not fold else None
    agreement = verify(before, after, plan=masked, tolerance=tolerance, force=True)
    if not agreement.ok:
        raise VerifyError(
            f"the stripped graph differs by {agreement.worst.relative:.3g} of the range of "
            f"{agreement.worst.name}, and {tolerance:g} is allowed",
            before.name,
            "nothing was written; please report it",
        )
    return agreement


# ------------------------------------------------------------------ the checkpoint itself
Axes = Mapping[int, np.ndarray]
"""By axis, the positions that go."""


class Slim(NamedTuple):
    """The contents of a stripped checkpoint.

    Attributes:
        values: by key, the array.
        meta: the bytes of its MetaGraph; None if it is not to be written.
    """

    values: Dict[str, np.ndarray]
    meta: Optional[bytes]


def cut_checkpoint(
    trained: Trained, cuts: Places, offsets: Mapping[str, Tensor], meta: bool
) -> Slim:
    """A checkpoint without some positions of its variables; names stay as they are.

    Optimizer slots and moving averages are cut with their variables. Those in the MetaGraph are
    found by its ops, others by their keys (`Trained.companions`).

    Args:
        trained: the checkpoint.
        cuts: by node of the inference graph and axis, the positions that go; nodes that are no
            variables are passed over.
        offsets: by variable's node, its new value.
        meta: whether to cut the MetaGraph too.

    Raises:
        PlanError: a variable is a part of a partitioned one, or cannot be cut in the MetaGraph.
    """
    variable_cuts = {name: axes for name, axes in cuts.items() if name in trained.keys}
    for name in variable_cuts:
        if name in trained.parts:
            raise PlanError(
                "the checkpoint holds it as one part of a larger tensor, and such parts cannot be "
                "cut",
                name,
                "train without a partitioner, or --exclude its group",
            )
    gone: Dict[str, Axes] = {}
    for name, axes in variable_cuts.items():
        key = trained.keys[name]
        for holder in (key, *trained.companions.get(key, ())):
            if trained.values.shapes.get(holder) == trained.values.shapes[key]:
                gone[holder] = {axis: np.asarray(cut, int) for axis, cut in axes.items()}
    data: Optional[bytes] = None
    if meta:
        keys = keys_of(trained.whole, trained.meta)
        narrowed = _narrowed(trained, _in_whole(trained, keys, variable_cuts))
        gone.update({keys[node]: axes for node, axes in narrowed.cuts.items() if node in keys})
        data = with_graph(trained.meta, serialize(narrowed.graph))
    values = pruned_values(trained, {}, offsets)
    for key in values:
        values[key] = _cut(values[key], gone.get(key, {}))
    return Slim(values, data)


def _narrowed(trained: Trained, cuts: Places) -> Narrowed:
    try:
        with refusing_misfits(trained.meta.path):
            return narrow(trained.whole, cuts)
    except PlanError as error:
        hint = f"{error.hint}; --no-meta writes the checkpoint and the .pb alone"
        raise PlanError(error.what, error.where, hint) from None


def _in_whole(trained: Trained, keys: Mapping[str, str], cuts: Places) -> Places:
    """The cuts in the names of the MetaGraph's own variables.

    The inference graph may have other names: it may come from another MetaGraph, and moving
    averages may take the variables' place.
    """
    nodes = {key: node for node, key in keys.items()}
    by_node: Places = {}
    for name, axes in cuts.items():
        key = trained.keys[name]
        candidates = [name] if name in keys else []
        candidates += [
            nodes[holder] for holder in (*trained.companions.get(key, ()), key) if holder in nodes
        ]
        if candidates:
            by_node[candidates[0]] = axes
    return by_node


def _cut(array: np.ndarray, axes: Axes) -> np.ndarray:
    """An array without some positions along some axes."""
    for axis, gone in axes.items():
        array = np.delete(array, np.asarray(gone, int), axis)
    return array


# ------------------------------------------------------------------ whether TensorFlow takes it
_HINT = "--no-meta writes the checkpoint and the .pb alone; please report it"
_NODE = re.compile(r"node (?:\{\{node )?'?([\w./>-]+)|([\w./>-]+) = \w+\[|\[\[\{\{node ([\w./>-]+)")
"""How TensorFlow's messages name a node."""


def check_restores(prefix: str) -> None:
    """Imports the MetaGraph beside a checkpoint, and restores the checkpoint into it.

    Args:
        prefix: of the checkpoint; `.meta` is appended for the MetaGraph.

    Raises:
        VerifyError: TensorFlow refuses one of them; the message names the node if TensorFlow does.
        RuntimeUnavailable: TensorFlow is not installed.
    """
    tf = runtime.tensorflow("the stripped checkpoint is tried with it")
    config = unoptimized(tf, allow_soft_placement=True, device_count={"GPU": 0})
    with tf.Graph().as_default() as graph:
        try:
            saver = tf.train.import_meta_graph(prefix + ".meta", clear_devices=True)
        except (tf.errors.OpError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise _refusal(tf, "the MetaGraph", error) from None
        if saver is None:
            return
        with tf.Session(graph=graph, config=config) as session:
            try:
                saver.restore(session, prefix)
            except (tf.errors.OpError, ValueError, TypeError) as error:
                raise _refusal(tf, "the checkpoint", error) from None


def _refusal(tf: Any, subject: str, error: Exception) -> VerifyError:
    match = _NODE.search(str(error))
    names = [name for name in match.groups() if name] if match else []
    return VerifyError(
        f"TensorFlow {tf.__version__} refuses {subject} at the smaller size: {first_line(error)}",
        names[0] if names else None,
        _HINT,
    )
