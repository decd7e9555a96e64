"""What the first rounds of all searches show: of clean networks, for a calibration; of backdoored ones, as a test of it.

    python -m tests.benchmarks.first_rounds --zoo ZOO --data DIR --out FILE.jsonl [--data-free] [--only TEXT ...]
    python -m tests.benchmarks.first_rounds --rows FILE.jsonl ... --write calibration.json

ZOO and DIR as of tests.benchmarks.detection; networks with fewer than MANY classes are left out. FILE.jsonl gets a line for
each network, and those that are there are not searched again. --write takes the clean ones of which the main part of the
package's calibration speaks into it.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnx_shapprune.case.open import open_case
from onnx_shapprune.commands.effort import effort_for
from onnx_shapprune.detect.calibration import DIGITS, Calibration, calibration_text, load_calibration
from onnx_shapprune.detect.statistics import FIRST, first_claim
from onnx_shapprune.detect.thresholds import MANY
from onnx_shapprune.detect.verdict import leads
from onnx_shapprune.errors import ShapPruneError
from onnx_shapprune.invert.search import begin
from onnx_shapprune.settings import RunOptions
from tests.benchmarks import lines
from tests.benchmarks.detection import pictures
from tests.benchmarks.measure import Entry, entries, few_shot
from tests.benchmarks.peers import options


def row_of(entry: Entry, o: argparse.Namespace) -> dict[str, Any]:
    """What the first rounds show on one network, with one picture of each class or none; seconds: of the processor, to open
    the case and to search.
    """
    run, start = RunOptions(seed=o.seed, threads=1, device="cpu"), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder, "few.npz")
        if not o.data_free:
            known, labels, _, _ = pictures(o.data / f"{entry.data}.npz")
            x, y = few_shot(known, labels, entry.classes, 1, np.random.default_rng(o.seed))
            np.savez(few, x=x, y=y)
        case = open_case(o.zoo / entry.folder / entry.file, None if o.data_free else few, options(entry), run)
    subject, opened = case.model.subject, time.process_time()
    settings = replace(effort_for(subject.prepared, run).search, warps=not o.data_free)
    before = subject.work.pictures
    begun = begin(case.shown, settings, np.random.default_rng(o.seed))
    claim = first_claim(begun)
    return {
        "file": entry.file, "kind": entry.kind, "target": entry.target, "free": o.data_free, "classes": len(begun.goals),
        "edge": max(case.shown.size[:2]), "shown": len(case.shown), "value": round(claim.value, DIGITS) if claim else None,
        "leader": claim.goal.target if claim else None, "led": leads(begun.moved),
        "pictures": subject.work.pictures - before,
        "seconds": [round(opened - start, 2), round(time.process_time() - opened, 2)],
    }  # fmt: skip


def rows(o: argparse.Namespace, done: set[str]) -> Iterator[dict[str, Any]]:
    """What is missing."""
    for entry in entries(o.zoo):
        wanted = not o.only or any(text in entry.file for text in o.only)
        if wanted and entry.file not in done and entry.classes >= MANY and (o.data_free or entry.data):
            try:
                yield row_of(entry, o)
            except ShapPruneError as error:
                print(f"{entry.file}: {error}", flush=True)


def calibrated(found: list[dict[str, Any]]) -> str:
    """The package's calibration with what clean networks show; the part of larger pictures holds all of them."""
    known = load_calibration(None)
    assert known.large is not None
    clean = {(r["file"], r["free"]): r for r in found if r["kind"] == "clean"}
    parts = [part.model_copy(update=_columns(part, [*clean.values()])) for part in (known, known.large)]
    return calibration_text(parts[0].model_copy(update={"large": parts[1]}))


def _columns(part: Calibration, clean: list[dict[str, Any]]) -> dict[str, dict[str, tuple[float, ...]]]:
    """The columns of a part with the first rounds of the networks that it speaks of, where there are any."""
    made, domain = {}, part.domain
    assert domain is not None
    for name, free in (("pictures", False), ("synthesised", True)):
        inside = [
            r
            for r in clean
            if r["free"] is free and r["edge"] <= domain.pixels[1] and r["classes"] <= domain.classes[1]
        ]
        values = tuple(r["value"] for r in inside if not free or r["shown"] >= (domain.drawn or 0))
        if values:
            made[name] = dict(sorted({**getattr(part, name), FIRST: values}.items()))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", default=[], metavar="TEXT")
    parser.add_argument("--data-free", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=Path, nargs="*", default=[])
    parser.add_argument("--write", type=Path)
    o = parser.parse_args()
    if o.write:
        o.write.write_text(calibrated([r for path in o.rows for r in lines.read(path)]))
        return
    found = lines.read(o.out)
    lines.keep(rows(o, {r["file"] for r in found}), o.out, found)


if __name__ == "__main__":
    main()
