"""`graphslim passes`: what --pass takes."""

from __future__ import annotations

from typing import Any, Dict

import click

from graphslim import show
from graphslim.cli import console
from graphslim.pipeline import passes


@click.command(name="passes", short_help="List the passes for --pass.")
def list_passes() -> int:
    """List the passes that can be run with --pass."""
    known: Dict[str, Any] = passes()
    show.print_pairs(console.out, [(name, cls.summary()) for name, cls in sorted(known.items())])
    return console.OK
