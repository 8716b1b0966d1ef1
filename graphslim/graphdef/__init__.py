"""GraphDef in and out: the one folder that knows the protobuf messages."""

from __future__ import annotations

from graphslim.graphdef.emit import save, serialize, to_graph_def
from graphslim.graphdef.inline import drop_functions
from graphslim.graphdef.load import frozen_from, load, parse

__all__ = ["drop_functions", "frozen_from", "load", "parse", "save", "serialize", "to_graph_def"]
