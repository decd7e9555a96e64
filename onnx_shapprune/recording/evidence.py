"""From the evidence of an examination to the parts of a record that hold it."""

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Case
from onnx_shapprune.detect.examination import Examination
from onnx_shapprune.detect.verdict import Levels, Verdict
from onnx_shapprune.record.audit import AttackPart, ClaimPart, ClassPart, CompactPart, FamilyPart


def class_parts(case: Case, found: Examination | None) -> tuple[ClassPart, ...]:
    """Evidence per class as the record holds it."""
    parts = []
    for e in found.evidence if found else ():
        assert found is not None
        target, suspicion, best, patch = e.goal.target, found.suspicion, e.smallest, e.compact
        rows, cols = np.nonzero(patch.trigger.mask[..., 0])
        compact = CompactPart(
            side=round(patch.trigger.norm**0.5),
            top=int(rows.min()),
            left=int(cols.min()),
            margin=patch.margin,
            asr=patch.asr,
            transfer=e.transfer.get("compact"),
            distance=e.distance,
        )
        values = {c.statistic: (c.value, p) for c, p in suspicion.claims if c.goal == e.goal}
        families = [
            FamilyPart(
                family=name,
                margin=f.margin,
                asr=f.asr,
                transfer=e.transfer.get(name),
                value=values[name][0] if name in values else None,
                p_value=values[name][1] if name in values else None,
            )
            for name, f in e.measured.items()
        ]
        reasons = [r for goal, said in suspicion.named.items() if target in goal.targets for r in said]
        parts.append(
            ClassPart(
                index_of_class=target,
                name=case.class_names[target] if case.class_names else str(target),
                norm=best.trigger.norm if best and best.success else None,
                asr=best.asr if best else max(f.asr for f in e.found.values()) if found.ended else patch.asr,
                index=suspicion.norm_index(target),
                success=bool(best and best.success),
                norms=tuple(p.trigger.norm for p in e.patches if p.success),
                compact=(compact,),
                margin_index=suspicion.margin_index(target),
                families=tuple(families),
                score=suspicion.score(target),
                suspicious=bool(reasons),
                reasons=tuple(reasons),
            )
        )
    return tuple(parts)


def claim_parts(found: Examination | None) -> tuple[ClaimPart, ...]:
    return tuple(
        ClaimPart(
            statistic=c.statistic,
            kind=c.goal.kind,
            targets=c.goal.targets,
            source=c.goal.source,
            value=c.value,
            p_value=p,
            cautions=said.cautions,
            outside=said.outside,
            gone=said.gone,
        )
        for (c, p), said in (
            zip(found.suspicion.claims, found.suspicion.claimed, strict=True) if found is not None else ()
        )
    )


def not_searched(found: Examination | None) -> tuple[str, ...]:
    if found is None:
        return ()
    why = f"not without gradients ({found.obstacle})" if found.obstacle else "the time was too short"
    left_out = [f"{name}: {why}" for name in found.skipped]
    if rest := found.covered - len(found.evidence):
        left_out.append(f"{rest} of {found.classes} classes: a coarse search of all reached less than of the others")
    if rest := found.classes - found.covered:
        left_out.append(f"{rest} of {found.classes} classes: random patches lift them less than the others")
    if found.relations is None and not found.suspicion.named and "pairs of classes" not in found.skipped:
        left_out.append("pairs and maps of classes: too many classes")
    return tuple(left_out)


def attack_parts(found: Examination | None, verdict: Verdict[Goal]) -> tuple[AttackPart, ...]:
    """What the searches found and the verdict names, most unusual first."""
    return () if found is None else tuple(_attack(found, g) for g in found.suspicion.named if g in verdict.goals)


def suspect_parts(found: Examination | None, verdict: Verdict[Goal]) -> tuple[AttackPart, ...]:
    """What stands out and is not named, most unusual first."""
    return () if found is None else tuple(_attack(found, goal) for goal in verdict.suspects)


def _attack(found: Examination, goal: Goal) -> AttackPart:
    suspicion = found.suspicion
    mine = [c for c in suspicion.claimed if c.goal == goal]
    # What names a goal is not the most unusual claim about it, where that one is no evidence, on too few pictures say.
    counted = [c for c in mine if not c.warnings(Levels())] if goal in suspicion.named else mine
    strongest = min(counted, key=lambda c: c.p_value)
    return AttackPart(
        kind=goal.kind,
        targets=goal.targets,
        source=goal.source,
        mapping=goal.mapping or (),
        reasons=suspicion.named.get(goal, strongest.reasons),
        families=tuple(dict.fromkeys(t.family for t in suspicion.triggers.get(goal, ()))),
        p_value=strongest.p_value,
    )
