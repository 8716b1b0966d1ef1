"""The stepped threshold loop around a training script, one step at a time.

Soft filter pruning (He et al. 2018, arXiv 1808.06866) by redundancy (Liu et al. 2017, arXiv
1705.10748), as the published method steps it: prune at a threshold, train, prune the same channels
again while too many come back, then lower the threshold.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from graphslim import api
from graphslim.checkpoint import prefix_of
from graphslim.checkpoint.files import PLAN, make_folder
from graphslim.checkpoint.model import Trained, open_checkpoint
from graphslim.errors import GraphslimError, PlanError
from graphslim.plans import Plan, read_plan
from graphslim.support.reading import parse_json, read_text
from graphslim.support.text import is_finite, is_share, percent
from graphslim.support.writing import replacing
from graphslim.training.hook import SoftPruningHook


class Step:
    """One checkpoint to be trained by the script. Call `retrained` before the next step.

    Attributes:
        threshold: the threshold of this step.
        round: 0, or how many times the same channels have been set to zero again.
        folder: the folder that holds `checkpoint`, `plan.json` and, once trained, `step.json`.
        checkpoint: the prefix of the checkpoint to be trained, with the plan's channels at zero.
        plan: the plan of the channels that are zero.
        failed_rate: the share of their filters that were not zero any more after training; None
            before that.
        result: the prefix of the trained checkpoint; None before `retrained`. After the last step
            it is a checkpoint with the plan's channels at zero: a copy, if some did not stay zero.
    """

    def __init__(
        self, threshold: float, number: int, folder: str, checkpoint: str, plan: Plan
    ) -> None:
        self.threshold, self.round = threshold, number
        self.folder, self.checkpoint, self.plan = folder, checkpoint, plan
        self.failed_rate: Optional[float] = None
        self.result: Optional[str] = None

    def __repr__(self) -> str:
        return f"Step(threshold={self.threshold}, round={self.round}, {self.checkpoint!r})"

    def hook(self, **options: Any) -> SoftPruningHook:
        """A hook that holds the plan's channels at zero while this step is trained.

        Args:
            options: those of `SoftPruningHook`.
        """
        return SoftPruningHook(self.plan, **options)

    def retrained(self, where: Any) -> None:
        """Tells the schedule where the trained checkpoint is.

        Args:
            where: its prefix, one of its files, or a folder, whose latest checkpoint is taken.

        Raises:
            GraphslimError: there is no checkpoint, or it is the untrained checkpoint of this step.
            LoadError: the latest checkpoint of the folder is not there.
        """
        if where is None:
            raise GraphslimError(
                "got no checkpoint", "step.retrained()", "give a prefix, or the folder of one"
            )
        path = os.fspath(where)
        prefix = prefix_of(path)
        if prefix is None:
            message = "holds no checkpoint" if os.path.isdir(path) else "no checkpoint of that name"
            raise GraphslimError(message, path, "give what training saved")
        if os.path.realpath(prefix) == os.path.realpath(self.checkpoint):
            raise GraphslimError(
                "is the checkpoint that was to be trained",
                path,
                "save the trained one under another name, or with its global step",
            )
        self.result = prefix


# ------------------------------------------------------------------ what the folder keeps
_SCHEDULE, _OUTCOME = "schedule.json", "step.json"


def claim(folder: str, first: Trained, selection: Mapping[str, Any]) -> None:
    """Marks a folder as that of a schedule, or checks that it is marked so.

    Args:
        folder: the folder; it is made if it does not exist.
        first: the checkpoint that the schedule begins with.
        selection: how channels are chosen; settings that JSON cannot hold are not compared.

    Raises:
        GraphslimError: the folder is of another schedule.
        EmitError: the folder cannot be written.
    """
    make_folder(folder)
    path = os.path.join(folder, _SCHEDULE)
    settings = {"checkpoint": first.values.digest().hex(), "selection": _plain(selection)}
    if not os.path.isfile(path):
        _write(path, settings)
        return
    stored = _read(path)
    for key, value in settings.items():
        if stored.get(key) != value:
            raise GraphslimError(
                f"holds the steps of a schedule with another {key}",
                folder,
                "choose another folder, or delete it to begin again",
            )


def read_outcome(step: Step) -> bool:
    """Reads the outcome of a step into it; returns False if the step was not trained yet.

    Raises:
        GraphslimError: the file `step.json` is damaged.
    """
    path = os.path.join(step.folder, _OUTCOME)
    if not os.path.isfile(path):
        return False
    outcome = _read(path)
    try:
        failed_rate, retrained = float(outcome["failed_rate"]), os.fspath(outcome["retrained"])
    except (KeyError, TypeError, ValueError):
        raise GraphslimError("is damaged", path, "delete it to train that step again") from None
    step.failed_rate = failed_rate
    step.result = os.path.normpath(os.path.join(step.folder, retrained))
    return True


def write_outcome(step: Step) -> None:
    """Writes the prefix of the trained checkpoint, and its failed rate, to `step.json`.

    Raises:
        EmitError: the file cannot be written.
    """
    assert step.result is not None
    inside = os.path.realpath(os.path.dirname(step.folder)) + os.sep
    result = os.path.realpath(step.result)
    if result.startswith(inside):
        # A relative path, so that the whole folder can be moved.
        result = os.path.relpath(result, os.path.realpath(step.folder))
    note = {"threshold": step.threshold, "round": step.round, "removed": step.plan.removed}
    outcome = {**note, "failed_rate": step.failed_rate, "retrained": result}
    _write(os.path.join(step.folder, _OUTCOME), outcome)


def _plain(selection: Mapping[str, Any]) -> Dict[str, Any]:
    """The settings that JSON can hold, as they will be read again."""
    plain = {}
    for name, value in selection.items():
        try:
            plain[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            continue
    return plain


def _write(path: str, tree: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps(tree, indent=1, sort_keys=True) + "\n").encode("utf-8"))


def _read(path: str) -> Dict[str, Any]:
    tree = parse_json(read_text(path), path)
    if not isinstance(tree, dict):
        raise GraphslimError("not what a schedule writes", path)
    return tree


# ------------------------------------------------------------------ the loop
THRESHOLDS = (0.8, 0.7, 0.6, 0.55, 0.5)
"""The thresholds of the published method."""


def schedule(
    checkpoint: Any,
    folder: Any,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    outputs: Optional[Sequence[str]] = None,
    inputs: Optional[Sequence[str]] = None,
    meta: Optional[str] = None,
    inference_meta: Optional[str] = None,
    input_shapes: Any = None,
    averages: bool = False,
    most_failed: float = 0.1,
    max_rounds: int = 5,
    below: float = 1e-9,
    criterion: str = "redundancy",
    scope: str = "blocks",
    multiple_of: Optional[int] = 4,
    rounding: str = "removed",
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    **selection: Any,
) -> Schedule:
    """Prunes softly at one threshold after the other; the caller trains each result.

    The whole loop of a training script::

        steps = gs.training.schedule("model.ckpt-1000", "out", outputs=["logits"])
        for step in steps:
            step.retrained(train(step.checkpoint))
        gs.strip(steps.result, steps.plan, "out/stripped", outputs=["logits"])

    The checkpoint of a step is in `folder/TH0.8`, and where the same channels have to be set to
    zero again in `folder/TH0.8_Repruned1` and so on, each with its `plan.json` and, once trained,
    a `step.json` with the prefix of the result and its failed rate. Called again with the same
    checkpoint, folder and settings, it goes on after the steps that are done; a step that was being
    trained when the process ended is yielded again. Thresholds that choose nothing are left out.

    Channels that are zero stay chosen, since their redundancy is 1. To hold them at zero while
    training goes on, give the training `step.hook()`.

    Args:
        checkpoint: the prefix of the trained network's checkpoint.
        folder: the folder of the steps; it is made if it does not exist.
        thresholds: the thresholds in order; for redundancy, from the highest to the lowest.
        outputs, inputs, meta, inference_meta, input_shapes, averages: as for
            `graphslim.open_checkpoint`, for this checkpoint and all that follow. A checkpoint
            without a MetaGraph beside it is opened with that of the checkpoint before it.
        most_failed: the failed rate up to which training counts as done; beyond it the same
            channels are set to zero and trained again.
        max_rounds: how many times channels are set to zero again at one threshold.
        below: a filter counts as zero if the sum of its magnitudes is smaller.
        criterion, scope, multiple_of, rounding, only, exclude, selection: as for `graphslim.plan`.

    Returns:
        an iterator over the steps that are still to be trained; `retrained` of each has to be
        called before the next. The iterator raises PlanError where no threshold chooses anything or
        the selection does not fit the network, LoadError where a checkpoint cannot be read,
        EmitError where a step cannot be written, and GraphslimError where `retrained` was not
        called, where channels do not stay zero in `max_rounds` rounds, or where the folder is of
        another schedule.

    Raises:
        GraphslimError: a threshold is no finite number or given twice, or a limit is out of range.
    """
    options: Dict[str, Any] = {
        "outputs": outputs,
        "inputs": inputs,
        "inference_meta": inference_meta,
        "input_shapes": input_shapes,
        "averages": averages,
    }
    settings: Dict[str, Any] = {
        "criterion": criterion,
        "scope": scope,
        "multiple_of": multiple_of,
        "rounding": rounding,
        "only": list(only),
        "exclude": list(exclude),
        **selection,
    }
    limits = Limits(most_failed, max_rounds, below)
    _check(thresholds, limits)
    source = Source(os.fspath(checkpoint), meta, options)
    return Schedule(source, os.fspath(folder), list(thresholds), settings, limits)


class Limits(NamedTuple):
    """When training counts as done; see `schedule`."""

    most_failed: float
    max_rounds: int
    below: float


class Source(NamedTuple):
    """The first checkpoint, and how it and those that follow are opened; see `schedule`."""

    checkpoint: str
    meta: Optional[str]
    options: Mapping[str, Any]

    def open(self, prefix: str, before: Optional[Trained] = None) -> Trained:
        """Opens a checkpoint; one without a MetaGraph beside it, with that of `before`."""
        meta = self.meta
        if meta is None and before is not None and not os.path.isfile(prefix + ".meta"):
            meta = before.meta.path
        return open_checkpoint(prefix, meta=meta, **self.options)


class Schedule:
    """The loop: an iterator over its steps. Get one with `schedule`.

    Attributes:
        plan: the plan of the last step that was trained.
        result: when the loop is over, the prefix of a checkpoint with that plan's channels at
            zero: the trained one or, if some of its filters are not zero, a copy in
            `folder/TH0.5_Result`; None before that.
        failed_rate: the failed rate of the last step that was trained.
    """

    def __init__(
        self,
        source: Source,
        folder: str,
        thresholds: Sequence[float],
        selection: Mapping[str, Any],
        limits: Limits,
    ) -> None:
        self._source, self._folder, self._limits = source, folder, limits
        self._selection = selection
        self.plan: Optional[Plan] = None
        self.result: Optional[str] = None
        self.failed_rate: Optional[float] = None
        self._steps = self._run(thresholds)

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        return next(self._steps)

    def _run(self, thresholds: Sequence[float]) -> Iterator[Step]:
        trained = self._source.open(self._source.checkpoint)
        claim(self._folder, trained, self._selection)
        last: Optional[Step] = None
        for threshold in thresholds:
            round_number = 0
            while last is None or round_number <= self._limits.max_rounds:
                step = self._step(trained, threshold, round_number, last)
                if step is None:
                    break
                if not read_outcome(step):
                    yield step
                trained, last = self._finished(step, trained), step
                if self._is_done(step):
                    break
                round_number += 1
            else:
                self._give_up(last)
        self._settle(trained, last, thresholds)

    def _step(
        self, trained: Trained, threshold: float, round_number: int, last: Optional[Step]
    ) -> Optional[Step]:
        """The step of a threshold and round, written if it is new; None if nothing is chosen."""
        name = f"TH{threshold:g}" + (f"_Repruned{round_number}" if round_number else "")
        folder = os.path.join(self._folder, name)
        plan_path = os.path.join(folder, PLAN)
        if os.path.isfile(plan_path):
            prefix = os.path.join(folder, os.path.basename(trained.prefix))
            return Step(threshold, round_number, folder, prefix, read_plan(plan_path))
        if round_number and last is not None:
            plan = last.plan
        else:
            plan = api.plan(trained.graph, threshold=threshold, **self._selection)
        if not plan.removed:
            return None
        return Step(threshold, round_number, folder, api.soft_prune(trained, plan, folder), plan)

    def _finished(self, step: Step, before: Trained) -> Trained:
        """The trained checkpoint of a step, its failed rate measured and written.

        Raises:
            GraphslimError: `retrained` was not called.
        """
        if step.result is None:
            raise GraphslimError(
                "step.retrained() was not called",
                f"threshold {step.threshold:g}",
                "tell it where the trained checkpoint is before you go on to the next step",
            )
        trained = self._source.open(step.result, before)
        if step.failed_rate is None:
            summary = api.summary(trained, step.plan, below=self._limits.below)
            step.failed_rate = summary.rate
            write_outcome(step)
        self.plan, self.failed_rate = step.plan, step.failed_rate
        return trained

    def _is_done(self, step: Step) -> bool:
        return step.failed_rate is not None and step.failed_rate <= self._limits.most_failed

    def _give_up(self, step: Step) -> None:
        """Ends the loop because too many filters are not zero after `max_rounds` rounds.

        Raises:
            GraphslimError: always; it advises how to go on.
        """
        raise GraphslimError(
            f"{percent(step.failed_rate or 0.0)} of the filters are not zero after training, where "
            f"{percent(self._limits.most_failed)} may fail, and this is round {step.round}",
            step.folder,
            "give training step.hook() to hold them at zero, train longer, or call this again "
            "with more max_rounds or a higher most_failed: it goes on from here",
        )

    def _settle(self, trained: Trained, last: Optional[Step], thresholds: Sequence[float]) -> None:
        """Sets the result, when the loop is over.

        Raises:
            PlanError: no threshold chose anything.
        """
        if last is None:
            raise PlanError(
                "none of them chooses any channels",
                f"thresholds {', '.join([f'{threshold:g}' for threshold in thresholds])}",
                "lower them, or prune a smaller multiple",
            )
        result = trained.prefix
        if last.failed_rate:
            folder = os.path.join(self._folder, f"TH{last.threshold:g}_Result")
            result = os.path.join(folder, os.path.basename(trained.prefix))
            if not os.path.isfile(os.path.join(folder, PLAN)):
                result = api.soft_prune(trained, last.plan, folder)
        self.result = last.result = result


def _check(thresholds: Sequence[float], limits: Limits) -> None:
    """Refuses thresholds and limits that are out of range for any network.

    Raises:
        GraphslimError: a threshold is no finite number or given twice, or a limit is out of range.
    """
    names: List[str] = []
    for threshold in thresholds:
        if not is_finite(threshold):
            raise GraphslimError(f"{threshold!r} is no finite number", "thresholds")
        names.append(f"{threshold:g}")
    if not names or len(set(names)) < len(names):
        message = "there are none" if not names else "the same one is there twice"
        raise GraphslimError(message, "thresholds", "give each once, such as 0.8, 0.7, 0.6")
    if not is_share(limits.most_failed):
        raise GraphslimError("must be from 0 to 1", "most_failed")
    if not (is_finite(limits.max_rounds) and limits.max_rounds >= 0):
        raise GraphslimError("must be 0 or more", "max_rounds")
