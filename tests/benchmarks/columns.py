"""What the first rounds of all searches show, what the last ones do to every picture, and what maps of classes do, and what
is tried as it is: of clean networks, for a calibration; of backdoored ones, as a test of it. None of it counts in the sums
that tests.benchmarks.calibration makes out of whole audits.

    python -m tests.benchmarks.columns --zoo ZOO --data DIR --out FILE.jsonl [--data-free] [--pictures N] [--only TEXT ...]
    python -m tests.benchmarks.columns --rows FILE.jsonl ... --write calibration.json --about TEXT [--statistics map]

ZOO and DIR as of tests.benchmarks.detection; the audits are given N pictures in all, one of each class where that is more.
FILE.jsonl gets a line for each network, and those that are there are not searched again. --write takes what clean ones show,
which answer six of ten pictures rightly, into those parts of the package's calibration that speak of such networks.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnx_shapprune.case.goal import all_to_one
from onnx_shapprune.case.open import Case, open_case
from onnx_shapprune.commands.effort import Effort, effort_for
from onnx_shapprune.detect.calibration import DIGITS, Calibration, calibration_text, load_calibration
from onnx_shapprune.detect.statistics import (
    EVERY,
    FIRST,
    MAP,
    MOST,
    SEVERAL,
    TRIED,
    every_claims,
    first_claim,
    most_claims,
    relation_claims,
    several_claims,
    spread_of,
    tried_claims,
)
from onnx_shapprune.detect.thresholds import FEWEST_MODELS, WORKING
from onnx_shapprune.detect.verdict import leads
from onnx_shapprune.errors import ShapPruneError
from onnx_shapprune.invert.relations import search_relations
from onnx_shapprune.invert.scan import best_of, tried_out
from onnx_shapprune.invert.search import Begun, begin
from onnx_shapprune.settings import RunOptions
from tests.benchmarks import lines
from tests.benchmarks.detection import pictures
from tests.benchmarks.measure import Entry, entries, few_shot
from tests.benchmarks.peers import options

HELD = 600  # pictures, at most, on which a network has to be right


def row_of(entry: Entry, o: argparse.Namespace) -> dict[str, Any]:
    """What a network shows; seconds: of the processor, to open the case and to search."""
    run, start = RunOptions(seed=o.seed, threads=1, device="cpu"), time.process_time()
    known, labels, held, truth = pictures(o.data / f"{entry.data}.npz")
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder, "few.npz")
        if not o.data_free:
            each = max(1, -(-o.pictures // entry.classes))
            x, y = few_shot(known, labels, entry.classes, each, np.random.default_rng(o.seed))
            np.savez(few, x=x, y=y)
        case = open_case(o.zoo / entry.folder / entry.file, None if o.data_free else few, options(entry), run)
    subject, opened = case.model.subject, time.process_time()
    right = float((subject.logits(held[:HELD].astype(np.float32)).argmax(1) == truth[:HELD]).mean())
    effort, before = effort_for(subject.prepared, run), subject.work.pictures
    measured = dict.fromkeys(MEASURED[s] for s in o.statistics)
    shown = {k: v for measure in measured for k, v in measure(case, effort, o).items()}
    return {
        "file": entry.file, "kind": entry.kind, "target": entry.target, "acc": round(right, 3),
        "free": o.data_free, "classes": len(subject.reachable), "edge": max(case.shown.size[:2]),
        "shown": len(case.shown), **shown, "pictures": subject.work.pictures - before,
        "seconds": [round(opened - start, 2), round(time.process_time() - opened, 2)],
    }  # fmt: skip


def _searched(case: Case, effort: Effort, o: argparse.Namespace) -> dict[str, Any]:
    """After the first rounds of all families, and after the last ones where these are asked for: those draw nothing more
    than an audit does.
    """
    settings, spread = replace(effort.search, warps=not o.data_free), spread_of(case.shown)
    begun = begin(case.shown, settings, np.random.default_rng(o.seed))
    shown: dict[str, Any] = {}
    if FIRST in o.statistics:
        claim = first_claim(begun, case.shown, spread)
        shown = {FIRST: round(claim.value, DIGITS), "leader": claim.goal.target, "led": leads(begun.moved)}
    if {EVERY, SEVERAL, MOST} & {*o.statistics}:
        found = dict(begun.found)
        for name, climb in begun.climbs.items():
            for results in climb:
                found[name] = [best_of(results, g) for g in begun.goals]
        evidence = replace(begun, found=found).evidence(case.shown)
        claims = {
            EVERY: every_claims(evidence, spread),
            SEVERAL: several_claims(evidence),
            MOST: most_claims(evidence, spread),
        }
        for statistic, said in claims.items():
            best = max(said, key=lambda c: c.value, default=None)
            if statistic in o.statistics:
                shown |= {
                    statistic: round(best.value, DIGITS) if best else 0.0,
                    f"{statistic} to": best and best.goal.target,
                }
    return shown


def _maps(case: Case, effort: Effort, o: argparse.Namespace) -> dict[str, Any]:
    if len(case.model.subject.reachable) > effort.relations.mapped:
        return {}
    found = search_relations(case.shown, effort.relations, np.random.default_rng(o.seed), warps=not o.data_free)
    said = {c.statistic: round(c.value, DIGITS) for c in relation_claims(found, spread_of(case.shown))}
    best = found.maps[0] if found.maps else None
    shown = best and [best.trigger.family, best.trigger.goal.words, round(best.asr, 2), round(best.margin, 2)]
    return {**said, "best": shown, "away": round(found.away, 2)}


def _tried(case: Case, effort: Effort, o: argparse.Namespace) -> dict[str, Any]:
    """What lines and tones show, of each the class that it leads to."""
    shown = case.shown
    families = effort.search.families(shown.pictures, len(shown.subject.reachable))
    goals, found = all_to_one(shown.subject.reachable), {}
    for name in TRIED:
        results = tried_out(shown, goals, families[name])
        found[name] = [best_of(results, g) for g in goals]
    evidence = Begun(goals, families, found, {}).evidence(shown)
    made: dict[str, Any] = {}
    for c in tried_claims(evidence, spread_of(shown)):
        made |= {c.statistic: round(c.value, DIGITS), f"{c.statistic} to": c.goal.target}
    return made


MEASURED = {
    FIRST: _searched, MAP: _maps, EVERY: _searched, SEVERAL: _searched, MOST: _searched, **dict.fromkeys(TRIED, _tried),
}  # fmt: skip


def rows(o: argparse.Namespace, done: set[str]) -> Iterator[dict[str, Any]]:
    """What is missing."""
    for entry in entries(o.zoo):
        wanted = not o.only or any(text in entry.file for text in o.only)
        if wanted and entry.file not in done and entry.data:
            try:
                yield row_of(entry, o)
            except ShapPruneError as error:
                print(f"{entry.file}: {error}", flush=True)


def calibrated(found: list[dict[str, Any]], statistics: Sequence[str], about: str) -> str:
    """The package's calibration with what clean networks show."""
    known = load_calibration(None)
    each = {(r["file"], r["free"], r["shown"]): r for r in found}
    clean = [r for r in each.values() if r["kind"] == "clean" and r["acc"] >= WORKING]
    return calibration_text(_with(known, clean, statistics).model_copy(update={"about": about or known.about}))


def _with(part: Calibration, clean: list[dict[str, Any]], statistics: Sequence[str], above: int = 0) -> Calibration:
    """A part of the calibration, and the parts of it, with the columns of the networks that it speaks of, where there are
    enough. above: edge in pixels; those of a part for larger pictures are larger.
    """
    assert part.domain is not None
    inside = [r for r in clean if _speaks(part, r, above)]
    changed: dict[str, Any] = {}
    for name, free in (("pictures", False), ("synthesised", True)):
        columns = dict(getattr(part, name))
        for statistic in statistics:
            values = [r[statistic] for r in inside if r["free"] is free and statistic in r]
            if columns and len(values) >= FEWEST_MODELS:
                columns[statistic] = tuple(sorted(values))
        changed[name] = dict(sorted(columns.items()))
    if above >= part.domain.pixels[1] and FIRST in statistics and inside:  # a part that names nothing of this size
        edges = [r["edge"] for r in inside]
        changed["domain"] = part.domain.model_copy(update={"begun": (min(edges), max(edges))})
    for name in ("few", "many", "large", "more"):
        if (other := getattr(part, name)) is not None:
            changed[name] = _with(other, clean, statistics, part.domain.pixels[1] if name == "large" else 0)
    return part.model_copy(update=changed)


def _speaks(part: Calibration, row: dict[str, Any], above: int) -> bool:
    """Whether a part speaks of the network of a row, audited with so many pictures."""
    domain = part.domain
    assert domain is not None
    least, most = (above + 1, math.inf) if above else domain.pixels
    if not (domain.classes[0] <= row["classes"] <= domain.classes[1] and least <= row["edge"] <= most):
        return False
    if row["free"]:
        return row["shown"] >= (domain.drawn or 0)
    return (domain.given or 0) <= row["shown"] < (part.wanted or math.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", default=[], metavar="TEXT")
    parser.add_argument("--data-free", action="store_true")
    parser.add_argument("--pictures", type=int, default=1)
    parser.add_argument("--statistics", nargs="+", default=[*MEASURED], choices=[*MEASURED])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=Path, nargs="*", default=[])
    parser.add_argument("--write", type=Path)
    parser.add_argument("--about", default="", help="on what the calibration was made, in words")
    o = parser.parse_args()
    if o.write:
        o.write.write_text(calibrated([r for path in o.rows for r in lines.read(path)], o.statistics, o.about))
        return
    found = lines.read(o.out)
    lines.keep(rows(o, {r["file"] for r in found}), o.out, found)


if __name__ == "__main__":
    main()
