"""Stripping: a plan's channels cut from a checkpoint, its MetaGraph and its inference graph."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.analysis.dead import constants_of, consumers_of, find_dead
from graphslim.analysis.precision import TOLERANCE, tolerance_of
from graphslim.analysis.values import Values
from graphslim.checkpoint.beside import write_bytes, write_plan, write_state, write_text
from graphslim.checkpoint.check import check_restores
from graphslim.checkpoint.cuts import Fitting, fitting, places
from graphslim.checkpoint.folding import folded, with_values
from graphslim.checkpoint.model import Trained
from graphslim.checkpoint.rate import Summary, summary_of, summary_tree
from graphslim.checkpoint.slim import Slim, cut_checkpoint
from graphslim.compare import verify
from graphslim.errors import VerifyError
from graphslim.fidelity import Agreement
from graphslim.folders import check_folder, replacing_folder
from graphslim.ir import Graph
from graphslim.plans import DEAD_BELOW, Plan
from graphslim.plans.make import folds_of
from graphslim.rewrite import apply
from graphslim.runtime import write_checkpoint
from graphslim.saving import save
from graphslim.support.text import plural

SUMMARY = "summary.json"
CLOSE = 1e-5
"""Largest difference allowed where every filter removed is zero, as a share of the range."""
_LISTED = 6
"""Convolutions, and channels of each, that a refusal lists."""


class Stripped(NamedTuple):
    """What stripping wrote.

    Attributes:
        prefix: of the new checkpoint.
        graph_path: of the frozen graph.
        plan: what was cut, in the names of the checkpoint, with the folds that were made.
        summary: the failed rate before.
        before, after: the inference graphs.
        agreement: of the two; of the first without what reads the removed channels, where they
            were not zero.
        change: how far cutting what was not zero moved the outputs; None where all was.
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
    """Cuts a plan's channels from a checkpoint, and writes what is left; see `stripping`.

    Raises:
        PlanError, VerifyError, EmitError, RuntimeUnavailable: as there.
    """
    with stripping(trained, plan, folder, **options) as found:
        return found


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
    """Cuts a plan's channels from a checkpoint; the folder appears when what is inside succeeds.

    Args:
        trained: the checkpoint, softly pruned by the plan and retrained.
        plan: what goes.
        folder: where to; it then holds the checkpoint, its MetaGraph and the frozen graph (`.pb`)
            under the name that the checkpoint had, the state file that `tf.train.latest_checkpoint`
            reads, `plan.json` and `summary.json`.
        allow_unconverged: cut channels too that are not zero, whatever it does to the outputs.
        fold: cut channels too that are constant, and fold what they leave into the offsets behind.
        write_meta: write the MetaGraph too.
        force: allow a folder that is not empty.

    Raises:
        PlanError: the plan does not fit, or cuts one variable in two ways.
        VerifyError: channels are not zero; or what was made does not compute the same, or
            TensorFlow refuses it. Nothing is written then.
        EmitError: the folder cannot be written.
        RuntimeUnavailable: TensorFlow is not there.
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
    write_plan(plan, folder)
    text = json.dumps(summary_tree(summary), indent=1, allow_nan=False) + "\n"
    write_text(os.path.join(folder, SUMMARY), text)


def _with_folds(trained: Trained, fitted: Fitting) -> Fitting:
    """The plan with folds for what its channels hold, if they are all constant.

    Raises:
        VerifyError: some are not.
    """
    channels, removed = fitted.channels, fitted.removed
    consumers = consumers_of(channels, Values(trained.graph, channels, DEAD_BELOW), DEAD_BELOW)
    alive = removed & ~find_dead(channels, consumers, removed)
    if alive.any():
        by_id = {group.id: group for group in channels.groups}
        lines: List[Tuple[str, Tuple[int, ...]]] = []
        for one in fitted.plan.groups:
            left = np.flatnonzero(alive[by_id[one.id].channels])
            if len(left):
                lines.append((one.block or one.id, tuple(left.tolist())))
        raise VerifyError(
            f"{plural(int(alive.sum()), 'channel')} of the plan would be missed: neither zero nor "
            f"a constant that can be folded: {_listed(lines)}",
            trained.prefix,
            "retrain, or cut them all the same with --allow-unconverged",
        )
    folds = tuple(folds_of(constants_of(consumers, removed)))
    return fitted._replace(plan=fitted.plan._replace(folds=folds))


def _unconverged(trained: Trained, summary: Summary) -> VerifyError:
    lines = [(f"{one.block}: {one.convolution}", one.channels) for one in summary.unconverged]
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
    """The check of the inference graph; against what the plan leaves, if that is no zeros.

    Raises:
        VerifyError: it does not compute what it has to.
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
