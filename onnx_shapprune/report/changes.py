"""What a repair did to a file and what unlearning showed, in the words and cells that all reports share."""

from collections.abc import Sequence

from onnx_shapprune.detect.verdict import Levels
from onnx_shapprune.gate.evidence import Record
from onnx_shapprune.gate.rejudged import levels_of
from onnx_shapprune.record.audit import ClaimPart, LayerChange, RealignedPart, RepairPart, RoundPart
from onnx_shapprune.report.numbers import count, percent
from onnx_shapprune.report.text import plain

METHODS = {
    "prune": "units are switched off",
    "realign": "layers get other weights, and no unit is switched off",
    "both": "units are switched off, and layers get other weights",
    "cut": "nodes that a branch joins the network at pass on the network alone",
}
OTHER_WEIGHTS = "Layers with other weights"
COST_OF_DRAWN = "The cost is that of pictures drawn out of the model: what real ones lose is not known."
LAYER_COLUMNS = ("Layer", "Op", "#Change |dW|/|W|", "#Rank")  # those of numbers begin with "#"


def method_words(repair: RepairPart) -> str:
    """How a file was repaired; "" where no method was used."""
    if repair.method is None:
        return ""
    changed = f" ({count(len(repair.layers), 'layer')})" if repair.layers else ""
    alone = ""
    if repair.inverse is not None:
        asr, idle, acc = (percent(v, 0) for v in (repair.inverse.asr, repair.inverse.idle, repair.inverse.acc))
        alone = (
            f"; alone in their layers they send {asr} of the triggered pictures and {idle} of the clean ones to the target, "
            f"and get {acc} of the clean answers right"
        )
    return f"method {repair.method}: {METHODS[repair.method]}{changed}{alone}"


def weights_in_fits(rounds: Sequence[RoundPart]) -> str:
    """How much a clean row weighed in each fit, in the order of the rounds; "" without fits."""
    strengths = [f"{r.strength:g}" for r in rounds if r.strength is not None]
    if not strengths:
        return ""
    return f"in the fits, a clean row weighed {', then '.join(strengths)} times what a triggered one did"


def layer_rows(layers: Sequence[LayerChange]) -> list[list[str]]:
    """Cells of each layer's change; a comparison of two files tells neither op nor rank."""
    rows = []
    for layer in layers:
        op, rank = (layer.op, str(layer.rank)) if isinstance(layer, RealignedPart) else ("-", "-")
        rows.append([layer.layer, op, f"{layer.change:.4f}", rank])
    return rows


def unlearnt(record: Record) -> list[str]:
    """What became of each goal whose triggers were unlearnt, in words."""
    levels, said = levels_of(record), []
    for claim in record.claims:
        if claim.gone is None:
            continue
        said.append(f"{goal_words(claim)}: {claim_meaning(claim.gone, levels)}")
    return list(dict.fromkeys(said))


def claim_meaning(gone: float, levels: Levels) -> str:
    """What it says that this share of a goal's lead, 0..1, went when its triggers were unlearnt."""
    meaning = "as of a natural weakness" if gone < levels.natural else "as of a shortcut"
    return f"unlearnt and searched again, {percent(gone, 0)} of its lead is gone, {meaning}"


def goal_words(claim: ClaimPart) -> str:
    """The goal of a claim, without names of classes."""
    if claim.kind == "all-to-all":
        return "every class to another"
    targets = plain(", ".join(map(str, claim.targets)))
    return f"class {targets}" if claim.source is None else f"class {claim.source} to {targets}"
