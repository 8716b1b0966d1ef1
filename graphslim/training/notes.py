"""What a schedule's folder keeps of it: whose it is, and what came of each step."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Mapping

from graphslim.checkpoint.model import Trained
from graphslim.errors import EmitError, GraphslimError
from graphslim.support.reading import parse_json, read_text
from graphslim.support.writing import replacing
from graphslim.training.step import Step

_SCHEDULE, _OUTCOME = "schedule.json", "step.json"


def claim(folder: str, first: Trained, chosen: Mapping[str, Any]) -> None:
    """Makes a folder that of a schedule, or checks that it is.

    Args:
        folder: the folder; made where it is not there.
        first: the checkpoint that the schedule begins with.
        chosen: how channels are chosen; what JSON has no way to say does not count.

    Raises:
        GraphslimError: it is of another schedule.
        EmitError: it cannot be written.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise EmitError(f"cannot be made: {error.strerror}", folder, "choose another") from None
    path = os.path.join(folder, _SCHEDULE)
    own = {"checkpoint": first.values.digest().hex(), "selection": _plain(chosen)}
    if not os.path.isfile(path):
        _write(path, own)
        return
    kept = _read(path)
    for what, value in own.items():
        if kept.get(what) != value:
            raise GraphslimError(
                f"holds the steps of a schedule with another {what}",
                folder,
                "choose another folder, or delete it to begin again",
            )


def read_outcome(step: Step) -> bool:
    """Fills in what came of a step; False where it was not trained yet.

    Raises:
        GraphslimError: the note is damaged.
    """
    path = os.path.join(step.folder, _OUTCOME)
    if not os.path.isfile(path):
        return False
    kept = _read(path)
    try:
        rate, where = float(kept["failed_rate"]), os.fspath(kept["retrained"])
    except (KeyError, TypeError, ValueError):
        raise GraphslimError("is damaged", path, "delete it to train that step again") from None
    step.failed_rate = rate
    step.result = os.path.normpath(os.path.join(step.folder, where))
    return True


def write_outcome(step: Step) -> None:
    """Writes down where the trained checkpoint is, and how much of it failed.

    Raises:
        EmitError: it cannot be written.
    """
    assert step.result is not None
    inside = os.path.realpath(os.path.dirname(step.folder)) + os.sep
    where = os.path.realpath(step.result)
    if where.startswith(inside):
        # So that the whole folder can be moved.
        where = os.path.relpath(where, os.path.realpath(step.folder))
    note = {"threshold": step.threshold, "round": step.round, "removed": step.plan.removed}
    outcome = {**note, "failed_rate": step.failed_rate, "retrained": where}
    _write(os.path.join(step.folder, _OUTCOME), outcome)


def _plain(chosen: Mapping[str, Any]) -> Dict[str, Any]:
    """Those of some settings that JSON can say, as they will be read again."""
    found = {}
    for name, value in chosen.items():
        try:
            found[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            continue
    return found


def _write(path: str, tree: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps(tree, indent=1, sort_keys=True) + "\n").encode("utf-8"))


def _read(path: str) -> Dict[str, Any]:
    tree = parse_json(read_text(path), path)
    if not isinstance(tree, dict):
        raise GraphslimError("not what a schedule writes", path)
    return tree
