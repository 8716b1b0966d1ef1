"""`graphslim criteria`: what --criterion takes."""

from __future__ import annotations

import click

from graphslim import show
from graphslim.cli import console
from graphslim.criteria import criteria


@click.command(name="criteria", short_help="List the criteria for --criterion.")
def list_criteria() -> int:
    """List the criteria that --criterion takes, and what each measures."""
    known = criteria()
    show.print_pairs(console.out, [(name, one.source) for name, one in sorted(known.items())])
    return console.OK
