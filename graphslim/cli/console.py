"""Where commands write to, and the statuses that they end with."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any, ContextManager, Iterator, Optional, TypeVar

import click

from graphslim.errors import GraphslimError
from graphslim.show.console import Console

Saved = TypeVar("Saved")

OK, FAILED, BAD_INPUT, INTERRUPTED, PIPE = 0, 1, 2, 130, 141

out = Console()
err = Console(stderr=True)


@contextlib.contextmanager
def told_first(saving: ContextManager[Saved]) -> Iterator[Saved]:
    """Lets results be printed before the files that they are about take their places.

    So that whatever fails on the way, in making the text or in printing it, leaves no file: a
    command that exits with 1 or 2 has written none. A reader who has seen enough (`| head`) is no
    failure: the files take their places.

    Args:
        saving: writes the files beside their targets when entered, and puts them there on leaving.

    Raises:
        GraphslimError: standard output cannot be written, since the disk is full, say.
    """
    unread: Optional[BrokenPipeError] = None
    with saving as saved:
        try:
            yield saved
            sys.stdout.flush()
        except BrokenPipeError as error:
            unread = error
        except OSError as error:
            raise unwritable(error) from None
    if unread is not None:
        raise unread


def unwritable(error: OSError) -> GraphslimError:
    """The error that tells of a standard output that cannot be written; it is written no more."""
    silence()
    return GraphslimError(
        f"cannot be written: {error.strerror or error}",
        "standard output",
        "no file was written; send it elsewhere, such as to /dev/null",
    )


def silence() -> None:
    """Sends what is left of standard output nowhere; it would fail again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(tree: Any) -> None:
    """Prints a tree as JSON on stdout."""
    echo(json.dumps(tree, indent=1, allow_nan=False) + "\n")


def echo(text: str) -> None:
    """Prints a text on stdout as it is."""
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        # Without its number: click would end with a status of its own.
        raise BrokenPipeError from None
