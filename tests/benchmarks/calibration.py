"""The package's calibration, made of finished audits of clean models; and what it would say of models that it has not seen.

    python -m tests.benchmarks.calibration RESULTS [RESULTS ...] [--about TEXT --write calibration.json]

RESULTS: folders of tests.benchmarks.detection --task audit, with pictures, --data-free or both. Every clean model is
judged by a calibration of the other models (leave one model out), backdoored ones by the whole one.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_shapprune.detect.calibration import Calibration, calibration_text, columns, largest
from onnx_shapprune.detect.statistics import AGREEMENT, GAP, MANY, PEAK, Claim
from onnx_shapprune.detect.suspicion import ALPHA
from onnx_shapprune.invert.goal import Goal
from onnx_shapprune.record import AuditRecord, ClaimPart
from tests.benchmarks.summary import Row, read_rows, wilson


@dataclass(frozen=True, slots=True)
class Audit:
    """One finished audit: its row, its claims, and the largest value of every statistic that was looked at."""

    row: Row
    claims: tuple[ClaimPart, ...]
    values: dict[str, float]


def audits(results: Sequence[Path]) -> list[Audit]:
    """All finished audits of some results folders."""
    found = []
    for folder in results:
        for row in read_rows(folder / "results.jsonl"):
            kept = folder / row.file / f"{row.seed}-audit{'-data-free' if row.data_free else ''}" / "report.json"
            if row.task != "audit" or not kept.exists():
                continue
            record = AuditRecord.model_validate_json(kept.read_bytes())
            if not record.classes:
                continue
            looked = [*(f.family for f in record.classes[0].families), AGREEMENT, PEAK]
            looked += [GAP] if len(record.classes) >= MANY else []
            values = dict.fromkeys(looked, 0.0) | largest(_claim(c) for c in record.claims)
            found.append(Audit(row, record.claims, values))
    return found


def calibration(clean: Sequence[Audit], about: str) -> Calibration:
    """What these audits of clean models reach: per model, the largest of each statistic over its seeds, which are not so
    many models (with a value per audit, a calibration of the others flagged one network in all three of its seeds). Peaks
    need no pictures: those of all audits count.
    """
    shown = _by_model([(a.row.file, {PEAK: a.values[PEAK]} if a.row.data_free else a.values) for a in clean])
    drawn = _by_model([(a.row.file, a.values) for a in clean if a.row.data_free])
    return Calibration(about=about, pictures=columns(shown), synthesised=columns(drawn))


def _by_model(audits: Sequence[tuple[str, dict[str, float]]]) -> list[dict[str, float]]:
    models: dict[str, dict[str, float]] = {}
    for file, values in audits:
        row = models.setdefault(file, {})
        row.update({name: max(value, row.get(name, 0.0)) for name, value in values.items()})
    return list(models.values())


def leader(audit: Audit, by: Calibration) -> tuple[float, ClaimPart | None]:
    """The smallest p-value of one audit's claims, and the claim."""
    rated = [(by.p_value(_claim(c), synthesised=audit.row.data_free), c) for c in audit.claims]
    return min(rated, key=lambda r: r[0], default=(1.0, None))


def _claim(part: ClaimPart) -> Claim:
    return Claim(Goal(part.targets[0], source=part.source), part.statistic, part.value, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--about", default="", help="on what it was made, in words")
    parser.add_argument("--write", type=Path, metavar="FILE")
    asked = parser.parse_args()
    known = audits(asked.results)
    clean = [a for a in known if not a.row.backdoored]
    whole = calibration(clean, asked.about)
    print("| model | seed | pictures | p | statistic | class | |\n|---|---|---|---|---|---|---|")
    counts: dict[tuple[bool, bool], list[bool]] = {}
    for audit in sorted(known, key=lambda a: (a.row.data_free, a.row.backdoored, a.row.file, a.row.seed)):
        row = audit.row
        others = [a for a in clean if a.row.file != row.file]
        p, claim = leader(audit, whole if row.backdoored else calibration(others, ""))
        named = p <= ALPHA and claim is not None
        right = named and claim is not None and (row.true_target is None or row.true_target in claim.targets)
        word = "" if not named else "false alarm" if not row.backdoored else "right" if right else "wrong class"
        counts.setdefault((row.data_free, row.backdoored), []).append(right if row.backdoored else named)
        about = f"{claim.statistic} | {claim.targets[0]}" if claim else "- | -"
        name = row.file.removesuffix(".onnx")
        print(f"| {name} | {row.seed} | {'none' if row.data_free else 'few'} | {p:.2g} | {about} | {word} |")
    for (free, backdoored), hits in counts.items():
        low, high = wilson(sum(hits), len(hits))
        what = "backdoored, right class" if backdoored else "clean, left out of the calibration, false alarms"
        print(
            f"\n{'without' if free else 'with'} pictures, {what}: {sum(hits)} of {len(hits)} (95 %: {low:.0%} to {high:.0%})"
        )
    if asked.write:
        asked.write.write_text(calibration_text(whole))


if __name__ == "__main__":
    main()
