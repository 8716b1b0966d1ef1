"""Where commands write to, and the statuses that they end with."""

from __future__ import annotations

import json
from typing import Any

import click

from graphslim.show.console import Console

OK, FAILED, BAD_INPUT, INTERRUPTED, PIPE = 0, 1, 2, 130, 141

out = Console()
err = Console(stderr=True)


def print_json(tree: Any) -> None:
    """Prints a tree as JSON on stdout."""
    click.echo(json.dumps(tree, indent=1, allow_nan=False))
