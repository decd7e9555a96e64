"""What every channel of a model is worth to a trigger."""

from typing import Literal

from pydantic import Field

from onnx_shapprune.record.audit import AttackPart, EstimatePart, UnitsPart
from onnx_shapprune.record.graph import LayerPart
from onnx_shapprune.record.parts import (
    SCHEMA_VERSION,
    DataPart,
    Environment,
    Finite,
    ModelPart,
    Part,
    Verdict,
)


class ValuesRecord(Part):
    """units.ranked: every channel that played, the best first; estimate: how, None where nothing was named, or no channel
    could play, and `reason` says why. layers: all that have units, in the order of the graph; played: names of those that
    were asked for, () for all. attacks, verdict: what the search named; known_trigger: it was given instead. targets: of
    the triggers; triggers: how many were played with.
    """

    schema_version: str = SCHEMA_VERSION
    tool: Literal["onnx-shapprune"] = "onnx-shapprune"
    created: str
    command: tuple[str, ...] = ()
    seed: int
    reason: str = ""
    verdict: Verdict
    known_trigger: bool
    targets: tuple[int, ...] = ()
    triggers: int = 0
    attacks: tuple[AttackPart, ...] = ()
    model: ModelPart
    data: DataPart
    preprocessing: dict[str, object] = Field(default_factory=dict)
    settings: dict[str, object] = Field(default_factory=dict)
    played: tuple[str, ...] = ()
    layers: tuple[LayerPart, ...]
    units: UnitsPart
    estimate: EstimatePart | None = None
    evaluations: int
    seconds: dict[str, Finite] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    environment: Environment
