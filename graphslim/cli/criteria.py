"""`graphslim criteria`: what --criterion takes."""

from __future__ import annotations

import click

from graphslim.cli import console
from graphslim.criteria import criteria


@click.command(name="criteria", short_help="List the criteria for --criterion.")
def list_criteria() -> int:
    """List the criteria that --criterion takes, and what each measures."""
    known = criteria()
    width = max([len(name) for name in known])
    for name, one in sorted(known.items()):
        console.echo(f"{name:{width}}  {one.source}\n")
    return console.OK
