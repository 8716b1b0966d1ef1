"""What stands beside a checkpoint in a folder: state file, MetaGraph, plan."""

from __future__ import annotations

import os

from graphslim.checkpoint.model import Trained
from graphslim.plans import Plan

PLAN, STATE = "plan.json", "checkpoint"


def write_state(folder: str, name: str) -> None:
    """Writes the state file by which `tf.train.latest_checkpoint` finds a checkpoint.

    Args:
        folder: where the checkpoint is.
        name: its name in that folder, so that the folder can be moved.
    """
    quoted = "".join([_escaped(char) for char in name])
    text = f'model_checkpoint_path: "{quoted}"\nall_model_checkpoint_paths: "{quoted}"\n'
    write_text(os.path.join(folder, STATE), text)


def _escaped(char: str) -> str:
    """A character as the text form of a message has it."""
    return f"\\{char}" if char in '"\\' else char


def copy_meta(trained: Trained, prefix: str) -> None:
    """Writes the MetaGraph of a checkpoint, as it is, beside another."""
    write_bytes(f"{prefix}.meta", trained.meta.data)


def write_plan(plan: Plan, folder: str) -> None:
    """Writes a plan as `plan.json`."""
    write_text(os.path.join(folder, PLAN), plan.to_json())


def write_text(path: str, text: str) -> None:
    """Writes a file of text."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str, data: bytes) -> None:
    """Writes a file."""
    with open(path, "wb") as file:
        file.write(data)
