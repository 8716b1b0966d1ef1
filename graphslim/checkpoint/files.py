"""The files of a checkpoint: which one a path means, and what is written beside it."""

from __future__ import annotations

import ast
import glob
import os
import re
from typing import List, Optional

from graphslim.errors import EmitError, LoadError
from graphslim.graphdef import saved_model
from graphslim.runtime import checkpoint_files
from graphslim.support.reading import read_text

PLAN, STATE = "plan.json", "checkpoint"
"""Files beside a checkpoint: the plan that was applied, and the state that names the latest."""
_LATEST = re.compile(r'^\s*model_checkpoint_path:\s*("(?:[^"\\\n]|\\.)*")', re.MULTILINE)
_ENDING = re.compile(r"\.(meta|index|data-\d{5}-of-\d{5})$")
_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
"""The last bytes of a checkpoint's file in the format before V2."""


def prefix_of(path: str) -> Optional[str]:
    """The prefix of the checkpoint that a path means; None if it means none.

    Args:
        path: a prefix, one of its files (`.meta`, `.index`, `.data-...`), or a folder, of which it
            is the latest that its file `checkpoint` names.

    Raises:
        LoadError: the folder's latest checkpoint is not there.
    """
    if os.path.isdir(path):
        if saved_model.folder_of(path) is not None:
            return None
        return _latest(path) if os.path.isfile(os.path.join(path, STATE)) else None
    base = _ENDING.sub("", path)
    if base != path and os.path.isfile(path):
        return base
    if os.path.isfile(path):
        return path if _is_table(path) else None
    return path if _beside(path) else None


def files_of(path: str) -> List[str]:
    """The files of the checkpoint that a path means, its MetaGraph too; none if it means none.

    Raises:
        LoadError: the folder's latest checkpoint is not there.
    """
    prefix = prefix_of(path)
    return [] if prefix is None else _beside(prefix)


def refuse_incomplete(prefix: str) -> None:
    """Refuses a checkpoint of which only files are there that cannot be read without the others.

    Raises:
        LoadError: the index of the checkpoint is missing, and its data perhaps too.
    """
    files = _beside(prefix)
    if not files or prefix in files or prefix + ".index" in files:
        return
    endings = [path[len(prefix) :] for path in files]
    missing = ".index" if any(end.startswith(".data-") for end in endings) else ".index and .data"
    raise LoadError(
        f"found {' and '.join(endings)}, but not the checkpoint's {missing}",
        prefix,
        "copy all files of the checkpoint, which are written beside each other",
    )


def make_folder(folder: str) -> None:
    """Makes a folder if it does not exist.

    Raises:
        EmitError: the folder cannot be made.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise EmitError(
            f"the folder cannot be made: {error.strerror}", folder, "choose another"
        ) from None


def write_bytes(path: str, data: bytes) -> None:
    """Writes a file."""
    with open(path, "wb") as file:
        file.write(data)


def write_text(path: str, text: str) -> None:
    """Writes a file of text."""
    write_bytes(path, text.encode("utf-8"))


def write_state(folder: str, name: str) -> None:
    """Writes the state file by which `tf.train.latest_checkpoint` finds a checkpoint.

    Args:
        folder: where the checkpoint is.
        name: its name in that folder, so that the folder can be moved.
    """
    quoted = re.sub(r'(["\\])', r"\\\1", name)
    text = f'model_checkpoint_path: "{quoted}"\nall_model_checkpoint_paths: "{quoted}"\n'
    write_text(os.path.join(folder, STATE), text)


def _beside(prefix: str) -> List[str]:
    meta = prefix + ".meta"
    data = glob.glob(glob.escape(prefix) + ".data-*-of-*")
    return sorted({*checkpoint_files(prefix), *data, *([meta] if os.path.isfile(meta) else [])})


def _latest(folder: str) -> str:
    """The prefix that the file `checkpoint` in a folder names, looked for in that folder first.

    The file may hold the path that the folder had when the file was written.
    """
    state = os.path.join(folder, STATE)
    try:
        match = _LATEST.search(read_text(state))
        # The escapes are those of C, which are Python's too; what is not ASCII may stand as it is.
        text = "" if match is None else match[1].encode("utf-8").decode("latin-1")
        ascii_text = re.sub(r"[^\x00-\x7f]", lambda char: f"\\x{ord(char[0]):02x}", text)
        named = ast.literal_eval("b" + ascii_text).decode("utf-8") if text else ""
    except (LoadError, ValueError, SyntaxError):
        named = ""
    if not named or "\0" in named:
        raise LoadError("does not say which checkpoint is the latest", state, "give its prefix")
    moved_prefix = os.path.join(folder, os.path.basename(named))
    for prefix in (moved_prefix, os.path.join(folder, named)):
        if checkpoint_files(prefix):
            return prefix
    raise LoadError(f"the latest checkpoint, {named}, is not there", state, "give a prefix")


def _is_table(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(-min(len(_TABLE), file.tell()), os.SEEK_END)
            return file.read() == _TABLE
    except OSError:
        return False
