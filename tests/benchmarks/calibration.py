"""The package's calibration, made of finished audits of clean models; and what it would say of models that it has not seen.

    python -m tests.benchmarks.calibration RESULTS [RESULTS ...] [--beside FILE] [--about TEXT --write calibration.json]

RESULTS: folders of tests.benchmarks.detection --task audit ... -- --whole-search, with pictures, --data-free or both.
Every clean model is judged by a calibration of the other models (leave one model out), backdoored ones by the whole one.
FILE: a calibration whose models count as well, with the sums that they had among themselves.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.detect.calibration import (
    Calibration,
    Domain,
    added,
    calibration_text,
    columns,
    largest,
    load_calibration,
    strongest,
)
from onnx_shapprune.detect.statistics import AGREEMENT, EVERY, FIRST, NORM, PEAK, Claim
from onnx_shapprune.detect.thresholds import FEWEST_MODELS, MANY, NAMED, WORKING
from onnx_shapprune.record.audit import AuditRecord, ClaimPart
from tests.benchmarks.summary import Row, read_rows, wilson


@dataclass(frozen=True, slots=True)
class Audit:
    """One finished audit: its row, its claims, the largest value of every statistic that was looked at, and on how many
    pictures.
    """

    row: Row
    claims: tuple[ClaimPart, ...]
    values: dict[str, float]
    classes: int
    size: tuple[int, ...]
    pictures: int


def audits(results: Sequence[Path]) -> list[Audit]:
    """All finished audits of some results folders, of the same model and seed the last."""
    found: dict[tuple[str, int, bool], Audit] = {}
    for folder in results:
        for row in read_rows(folder / "results.jsonl"):
            kept = folder / row.file / f"{row.seed}-audit{'-data-free' if row.data_free else ''}" / "report.json"
            if row.task != "audit" or not kept.exists():
                continue
            record = AuditRecord.model_validate_json(kept.read_bytes())
            if not record.classes:
                continue
            if any(c.statistic == FIRST for c in record.claims):
                raise SystemExit(f"{kept} ended with its first rounds: audit with -- --whole-search")
            looked = [*(f.family for f in record.classes[0].families), AGREEMENT, NORM, PEAK, EVERY]
            values = dict.fromkeys(looked, 0.0) | largest(_claim(c) for c in record.claims)
            if record.first_rounds is not None:
                values[FIRST] = record.first_rounds
            found[row.file, row.seed, row.data_free] = Audit(
                row, record.claims, values, record.model.classes, _edges(record), record.before.pictures
            )
    return list(found.values())


# Classes of which natural leads are larger: two to seven were trained, and eight or nine have no larger ones.
FEW = (2, MANY - 1)
# Classes from which on audits without pictures are apart: pictures of some of many classes are drawn. With pictures such
# models show less than those with ten.
MANY_CLASSES = 64
SHOWN_BY = 3  # models that have an extreme at least: a single one shows nothing of its kind
# Edge of pictures in pixels from which on models are apart: more pixels move them further. 2026-11-28.
LARGE = 65
# Pictures at least that were drawn out of a model with ten classes or more. With fewer, more is natural: 2026-11-27, of own
# clean networks those with 6, 3, 3 and 2 had the four largest sums of 195 (23.6 to 9.6, the next one 7.9).
DRAWN = 8
# Pictures with as many of which a model with few classes has a part of its own: 2026-11-28, by own networks, as with one a
# class what is natural moves the one or two pictures as far as what was planted.
GIVEN = 10


def calibration(clean: Sequence[Audit], about: str, beside: Calibration | None = None) -> Calibration:
    """What these audits of clean models reach, of models with few classes apart, without pictures of those with many, and of
    those with large pictures.
    What does not work is no model that anybody deploys, and has the largest natural triggers: those that answer less than
    WORKING of the test pictures do not count. beside: what others reached, which counts as well.
    """
    clean = [a for a in clean if a.row.true_before is None or a.row.true_before.acc >= WORKING]
    large, clean = ([a for a in clean if (max(a.size) >= LARGE) is apart] for apart in (True, False))
    few, more = ([a for a in clean if a.classes <= FEW[1] and _more(a) is apart] for apart in (False, True))
    rest = [a for a in clean if a.classes > FEW[1]]
    crowds = [a for a in rest if a.classes >= MANY_CLASSES]
    rest = [a for a in rest if not a.row.data_free or (a.classes < MANY_CLASSES and a.pictures >= DRAWN)]
    whole = _of_kind(rest, about, beside)
    if whole.domain and whole.synthesised:
        whole = whole.model_copy(update={"domain": whole.domain.model_copy(update={"drawn": DRAWN})})
    parts: dict[str, Calibration] = {}
    if few or (beside and beside.few):
        parts["few"] = _with_more(_of_kind(few, about, beside and beside.few, FEW), more, beside and beside.few)
    if any(a.row.data_free for a in crowds) or (beside and beside.many):
        drawn = _of_kind(crowds, about, beside and beside.many)
        parts["many"] = whole.model_copy(
            update={n: getattr(drawn, n) for n in ("synthesised", "strongest_synthesised", "domain")}
        )
    known = (beside and beside.few and beside.few.large), beside and beside.large
    if "few" in parts:
        # Of nineteen with few classes one reaches what would be named: larger pictures stay outside of their domain.
        few = _with_large(parts["few"], [a for a in large if a.classes <= FEW[1]], known[0])
        stays = few.large and few.large.model_copy(update={"domain": few.domain})
        parts["few"] = few.model_copy(update={"large": stays})
    rest = [a for a in large if FEW[1] < a.classes < MANY_CLASSES and (not a.row.data_free or a.pictures >= DRAWN)]
    return _with_large(whole.model_copy(update=parts), rest, known[1])


def _more(audit: Audit) -> bool:
    return not audit.row.data_free and audit.pictures >= GIVEN


def _with_more(part: Calibration, clean: Sequence[Audit], before: Calibration | None) -> Calibration:
    """The same with a part for audits that were given more pictures, of models of the same domain."""
    if not clean:
        return part.model_copy(update={"more": before and before.more})
    known = (before and before.more) or Calibration(about="", pictures={}, domain=part.domain)
    made = _of_kind(clean, part.about, known, FEW)
    domain = made.domain and made.domain.model_copy(update={"given": GIVEN})
    return part.model_copy(update={"more": made.model_copy(update={"domain": domain})})


def _with_large(part: Calibration, clean: Sequence[Audit], before: Calibration | None) -> Calibration:
    """The same with a part for larger pictures: every value counts there, and of these models the most unusual ones. Too few
    of them leave it as it was before.
    """
    if len({a.row.file for a in clean}) < FEWEST_MODELS:
        return part.model_copy(update={"large": before})
    found: dict[str, object] = {"few": None, "many": None, "large": None, "more": None}
    for free, values, reached in ((False, "pictures", "strongest"), (True, "synthesised", "strongest_synthesised")):
        smaller = len(getattr(part, reached))
        models = smaller + len(getattr(before, reached, ()))
        rows = _rows([a for a in clean if a.row.data_free is free], _known(getattr(before or part, values), models))
        found |= {values: columns(rows), reached: strongest(rows)[smaller:]}
    peaks = [{PEAK: p} for p in (before or part).pictures.get(PEAK, ())]
    peaks += _by_model([(a.row.file, {PEAK: a.values[PEAK]}) for a in clean])
    found["pictures"] = {**found["pictures"], **columns(peaks)}  # type: ignore[dict-item]
    domain = (
        before.domain if before else part.domain and part.domain.model_copy(update={"pixels": _domain(clean).pixels})
    )
    return part.model_copy(update={"large": part.model_copy(update={**found, "domain": domain})})


def _of_kind(
    clean: Sequence[Audit], about: str, beside: Calibration | None = None, classes: tuple[int, int] | None = None
) -> Calibration:
    """What these audits of clean models reach: per model, the largest of each statistic over its seeds, which are not so
    many models (with a value per audit, a calibration of the others flagged one network in all three of its seeds). Peaks
    need no pictures: those of all audits count. Models outside of the domain, of which there are too few, count for nothing.
    classes: that the domain is said to have.
    """
    domain = beside.domain if beside else _domain(clean) if clean else None
    clean = [a for a in clean if domain and not domain.outside(a.classes, (min(a.size), max(a.size)))]
    before = beside or Calibration(about="", pictures={})
    shown, drawn = (
        _rows([a for a in clean if a.row.data_free is free], _known(values, len(reached)))
        for free, values, reached in (
            (False, before.pictures, before.strongest),
            (True, before.synthesised, before.strongest_synthesised),
        )
    )
    peaks = columns(
        [
            *({PEAK: p} for p in before.pictures.get(PEAK, ())),
            *_by_model([(a.row.file, {PEAK: a.values[PEAK]}) for a in clean]),
        ]
    )
    return Calibration(
        about=about,
        pictures=columns(shown) | peaks,
        synthesised=columns(drawn),
        strongest=strongest(shown),
        strongest_synthesised=strongest(drawn),
        domain=domain.model_copy(update={"classes": classes}) if domain and classes else domain,
    )


def _known(values: Mapping[str, Sequence[float]], models: int) -> list[dict[str, float]]:
    """Rows of a calibration's models again. A statistic that only some of them have is taken as that of the first ones."""
    return [{name: column[i] for name, column in values.items() if i < len(column)} for i in range(models)]


def _rows(audits: Sequence[Audit], beside: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """A row per model, as a calibration holds them."""
    rows = _by_model([(a.row.file, a.values) for a in audits])
    if not audits or min(a.classes for a in audits) < MANY:
        return [*beside, *rows]
    claims: dict[str, list[list[Claim]]] = {}
    for a in audits:
        claims.setdefault(a.row.file, []).append([_claim(c) for c in a.claims])
    return [*beside, *added(rows, list(claims.values()), beside)]


def _domain(clean: Sequence[Audit]) -> Domain:
    """From the smallest to the largest that SHOWN_BY of the models have."""
    models = {a.row.file: a for a in clean}.values()
    classes, low, high = (sorted(v) for v in zip(*((a.classes, min(a.size), max(a.size)) for a in models), strict=True))
    beyond = min(SHOWN_BY, (len(models) + 1) // 2) - 1
    return Domain(classes=(classes[beyond], classes[-1 - beyond]), pixels=(low[beyond], high[-1 - beyond]))


def _edges(record: AuditRecord) -> tuple[int, ...]:
    """Height and width of the model's pictures."""
    shape = record.model.input_shape
    return shape[1:] if record.model.layout == "NCHW" else shape[:2]


def _by_model(audits: Sequence[tuple[str, dict[str, float]]]) -> list[dict[str, float]]:
    models: dict[str, dict[str, float]] = {}
    for file, values in audits:
        row = models.setdefault(file, {})
        row.update({name: max(value, row.get(name, 0.0)) for name, value in values.items()})
    return list(models.values())


@dataclass(frozen=True, slots=True)
class Judged:
    """An audit, the smallest p-value of its claims, and that claim."""

    audit: Audit
    p: float
    claim: ClaimPart | None

    @property
    def named(self) -> bool:
        return self.p <= NAMED

    @property
    def right(self) -> bool:
        target = self.audit.row.true_target
        return self.named and self.claim is not None and (target is None or target in self.claim.targets)


def judge(audit: Audit, by: Calibration) -> Judged:
    """What a calibration says of one audit."""
    like = by.of(audit.classes, max(audit.size))
    claims = {_claim(c): c for c in audit.claims}
    rated = like.rated(list(claims), synthesised=audit.row.data_free)
    return Judged(audit, rated[0][1], claims[rated[0][0]]) if rated else Judged(audit, 1.0, None)


def _without(clean: Sequence[Audit], file: str) -> list[Audit]:
    return [a for a in clean if a.row.file != file]


def table(judged: Sequence[Judged]) -> str:
    """A row per model: how many of its audits named the right class, or of a clean one any class, with their p-values."""
    files = {j.audit.row.file: j.audit.row.backdoored for j in judged}
    lines = ["| model | with pictures | p | by | without | p | by |", "|---|---|---|---|---|---|---|"]
    for file, backdoored in sorted(files.items(), key=lambda item: (item[1], item[0])):
        cells = [file.removesuffix(".onnx")]
        for free in (False, True):
            mine = [j for j in judged if j.audit.row.file == file and j.audit.row.data_free == free]
            hits = sum(j.right if backdoored else j.named for j in mine)
            word = "right" if backdoored else "named"
            cells.append(f"{word} {hits} of {len(mine)}" if mine else "-")
            cells.append(", ".join(f"{j.p:.1g}" for j in sorted(mine, key=lambda j: j.audit.row.seed)))
            cells.append(", ".join(dict.fromkeys(j.claim.statistic for j in mine if j.claim)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _claim(part: ClaimPart) -> Claim:
    return Claim(Goal(part.targets[0], source=part.source), part.statistic, part.value, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--beside", type=Path, metavar="FILE", help="a calibration whose models count as well")
    parser.add_argument("--about", default="", help="on what it was made, in words")
    parser.add_argument("--write", type=Path, metavar="FILE")
    asked = parser.parse_args()
    known = audits(asked.results)
    clean = [a for a in known if not a.row.backdoored]
    beside = load_calibration(asked.beside) if asked.beside else None
    whole = calibration(clean, asked.about, beside)
    judged = [
        judge(a, whole if a.row.backdoored else calibration(_without(clean, a.row.file), "", beside)) for a in known
    ]
    print(table(judged))
    for free in (False, True):
        for backdoored, what in ((False, "clean, named"), (True, "backdoored, right class")):
            counted = [j for j in judged if (j.audit.row.data_free, j.audit.row.backdoored) == (free, backdoored)]
            hits = sum(j.right if backdoored else j.named for j in counted)
            low, high = wilson(hits, len(counted))
            models = len({j.audit.row.file for j in counted})
            print(
                f"\n{'without' if free else 'with'} pictures, {what}: {hits} of {len(counted)} audits of {models} models "
                f"({low:.0%} to {high:.0%})"
            )
    if asked.write:
        asked.write.write_text(calibration_text(whole))


if __name__ == "__main__":
    main()
