"""How faithful a graph is to another: what outputs decide, and how far their values are apart."""

from __future__ import annotations

from graphslim.fidelity.agreement import Agreement
from graphslim.fidelity.decisions import Decision, decision_of
from graphslim.fidelity.measures import Measures, OutputDifference, difference

__all__ = [
    "Agreement",
    "Decision",
    "Measures",
    "OutputDifference",
    "decision_of",
    "difference",
]
