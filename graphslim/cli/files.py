"""The files that commands read and write, checked before any work is done."""

from __future__ import annotations

import os
from typing import List, Mapping, Optional, Sequence

from graphslim import checkpoint
from graphslim.errors import EmitError
from graphslim.graphdef import saved_model
from graphslim.graphdef.emit import check_target, replacing
from graphslim.options import Reading
from graphslim.plans import Plan


def check_targets(
    output: str,
    beside: Mapping[str, Optional[str]],
    inputs: Sequence[Optional[str]],
    force: bool,
) -> None:
    """Refuses, before any work is done, what cannot be written or is an input.

    Args:
        output: the file that a command is for.
        beside: by option, what else it writes.
        inputs: what it reads.
        force: whether an input may be written over.

    Raises:
        EmitError: so.
    """
    named = {option: path for option, path in beside.items() if path is not None}
    taken = {os.path.realpath(output): "the output"}
    for target in [output, *named.values()]:
        check_target(target)
        for one in inputs:
            if not force and one is not None and _same_file(target, one):
                raise EmitError(
                    "is the input itself", target, "choose another name, or give --force"
                )
    for option, path in named.items():
        other = taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise EmitError(f"is {other} too", f"{option} {path}", "choose another name")


def files_of(model: str, reading: Reading) -> List[str]:
    """A model's path, the files of a SavedModel or checkpoint that it means, and MetaGraphs given.

    Raises:
        LoadError: a folder's latest checkpoint is not there.
    """
    metas = [path for path in (reading.meta, reading.inference_meta) if path is not None]
    return [model, *saved_model.files_of(model), *checkpoint.files_of(model), *metas]


def _same_file(one: str, other: str) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def write_plan(plan: Plan, path: str) -> None:
    """Writes a plan file, whole or not at all.

    Raises:
        EmitError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(plan.to_json().encode("utf-8"))
