"""From what a file itself shows, before any search, to the parts of a record that hold it."""

from collections.abc import Sequence
from typing import Literal

from onnx_shapprune.gate.rules import RULES, SEVERITIES, Severity
from onnx_shapprune.graph.preflight import Hazard
from onnx_shapprune.graph.provenance.oddities import Oddity
from onnx_shapprune.record.parts import FindingPart

LEVELS: dict[Severity, Literal["note", "warning", "high", "critical"]] = {
    "critical": "critical",
    "high": "high",
    "medium": "warning",
    "low": "note",
    "info": "note",
}


def preflight_parts(hazards: Sequence[Hazard]) -> tuple[FindingPart, ...]:
    """What the preflight found, gravest first."""
    grave = sorted(hazards, key=lambda h: (SEVERITIES.index(RULES[h.rule].severity), h))
    return tuple(FindingPart(level=LEVELS[RULES[h.rule].severity], rule=h.rule, text=h.text) for h in grave)


def graph_parts(found: Sequence[Oddity]) -> tuple[FindingPart, ...]:
    """What in the graph can decide an answer by itself, with the names of the nodes."""
    return tuple(FindingPart(level=LEVELS[RULES[o.rule].severity], rule=o.rule, text=o.text) for o in found)
