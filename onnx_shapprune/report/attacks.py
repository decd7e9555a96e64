"""What was found, in words, and the evidence that shows it best."""

from onnx_shapprune.detect.verdict import PEAK, Levels, apart
from onnx_shapprune.gate.evidence import Record
from onnx_shapprune.gate.rejudged import levels_of
from onnx_shapprune.record.audit import AttackPart, AuditRecord, ClaimPart, TriggerPart
from onnx_shapprune.report.changes import claim_meaning
from onnx_shapprune.report.numbers import count, percent
from onnx_shapprune.report.subject import FAMILIES, STATISTICS, WHOLE, class_name


def attack_words(record: Record, attack: AttackPart) -> str:
    """Which pictures a trigger moves, and where to."""
    targets = ", ".join(class_name(record, t) for t in attack.targets)
    if attack.kind == "all-to-all":
        return "one trigger sends every class to another"
    if attack.source is not None:
        return f"a trigger sends class {class_name(record, attack.source)} to class {targets}"
    return f"a trigger sends pictures of all classes to class {targets}"


def trigger_of(record: Record, attack: AttackPart) -> TriggerPart | None:
    """The trigger that shows an attack best: the first one that speaks for it."""
    if not isinstance(record, AuditRecord):
        return None
    mine = [t for t in record.triggers if t.targets == attack.targets and t.source == attack.source]
    return next((t for t in mine if t.named), mine[0] if mine else None)


def claims_of(record: Record, attack: AttackPart) -> list[ClaimPart]:
    """All that was found about a goal: first what its p-value is of, then the strongest; among equals, what has a trigger to
    show.
    """
    mine = [c for c in record.claims if c.targets == attack.targets and c.source == attack.source]
    return sorted(mine, key=lambda c: (c.p_value != attack.p_value, c.p_value, c.statistic == PEAK))


def trigger_words(record: Record, attack: AttackPart) -> str:
    """What the trigger is, and how many pictures it moves."""
    found = trigger_of(record, attack)
    if found is None:
        return "none that can be shown: the margins alone speak (MM-BD)" if record.verdict == "fail" else ""
    size = "" if found.family in WHOLE else f" of {found.norm:.0f} pixels"
    words = f"{FAMILIES.get(found.family, found.family)}{size}"
    asr, number = record.before.asr, record.before.triggered
    if asr is not None and found.named:
        return f"{words}: with it, {percent(asr, 0)} of {count(number, 'other picture')} go there"
    moved = sum(t.applied_class in found.targets for t in found.tried)
    return f"{words}: it moves {moved} of {count(len(found.tried), 'picture')}" if found.tried else words


def evidence_words(record: Record, attack: AttackPart) -> str:
    """The p-value that decided, held against what decides, and what unlearning showed."""
    levels = levels_of(record)
    claims = claims_of(record, attack)
    best = claims[0] if claims else None
    by = f": {STATISTICS.get(best.statistic, best.statistic)}" if best else ""
    words = [held_against(attack.p_value, levels) + by]
    words += [claim_meaning(c.gone, levels) for c in claims if c.gone is not None][:1]
    return "; ".join(words)


def held_against(p: float, levels: Levels) -> str:
    """A p-value beside what it is held against, in digits that tell them apart."""
    bars = f"named from {levels.named:g} down, suspicious from {levels.doubt:g} down"
    return f"p-value {apart(p, levels.named, levels.doubt)} ({bars})"
