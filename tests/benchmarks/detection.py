"""Sanitize (or audit) every model of a folder, and score the answers with the true triggers.

    python -m tests.benchmarks.detection --zoo DIR/zoo --out RESULTS [--data DIR/data] [--seeds 0,1,2] [--only TEXT ...]
    python -m tests.benchmarks.detection --zoo DIR/zoo --out RESULTS --data-free ...
    python -m tests.benchmarks.detection --out RESULTS --summary

DIR/zoo holds manifest.json, the models and triggers/. The manifest is a list with one object per model: `file` and
`folder` (below DIR/zoo); `kind`: clean, all-to-one, all-to-all (y becomes y + 1) or source-specific; `layout`: NCHW or
NHWC; `scale`, `mean`, `std`: the input is (picture / scale - mean) / std, mean and std one number or one per channel;
`data`: the stem of DIR/data/<data>.npz, or null where there are no labelled ones (then `pictures` may name a file of
DIR/data with unlabelled, unrelated pictures `x` of the right size, of which 20 are drawn, and the model's answers cannot be
scored but its verdict can; without either the model is skipped); `classes`; and for
a backdoor `trigger`: triggers/<trigger>.npz with mask and pattern (0..255) of shape [h, w, c] and mode (replace:
x (1 - mask) + pattern mask; replace_then_add: x (1 - mask) + pattern; add: x + pattern), `target`, and `source_class`
for source-specific ones. A clean model may list a trigger too: one that is dead. Data files hold uint8 [n, h, w, c] and
labels: x_test, y_test and, where there are any, x_train, y_train.

With --data-free the runs get no pictures; where the manifest names some, the results are still scored on them.

Every run is one child process on few-shot pictures drawn from x_train (from x_test where there is no x_train). ACC, ASR
and R-Acc are measured on x_test[:2000], the curve over the rounds of pruning on 1000 of these. RESULTS gets
results.jsonl (one line a run), results.csv, summary.md, and per run <file>/<seed>/report.json and plan.json. Finished
runs, failed and stopped ones too, are not repeated: delete their lines in results.jsonl to run them again. Options
after -- go to shapprune. Run from the root of the repository.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.record.audit import AuditRecord, ClassPart
from onnx_shapprune.record.parts import Rates, UnitRef
from tests.benchmarks.measure import Bytes, Entry, Labels, Scorer, TrueRates, few_shot
from tests.benchmarks.summary import Leader, Point, Row, append_row, csv_text, read_rows, summary, table

ROOT = Path(__file__).resolve().parents[2]
MEASURED = 2000
CURVE = 1000
UNLABELLED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for; timeout: seconds per run; extra: options handed on to shapprune."""

    zoo: Path
    data: Path
    out: Path
    task: str
    data_free: bool
    threads: int
    per_class: int
    timeout: float
    extra: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Child:
    """How the child process ended; code None: it was stopped at the time limit."""

    code: int | None
    error: str
    wall: float


@lru_cache(maxsize=1)
def pictures(path: Path) -> tuple[Bytes, Labels, Bytes, Labels]:
    """(x, y) to draw few-shot pictures from, (x, y) to measure on. Without x_train, both are x_test."""
    with np.load(path) as stored:
        x, y = stored["x_test"], stored["y_test"].astype(np.int64)
        if "x_train" in stored:
            return stored["x_train"], stored["y_train"].astype(np.int64), x[:MEASURED], y[:MEASURED]
    return x, y, x[:MEASURED], y[:MEASURED]


def unlabelled(path: Path, rng: np.random.Generator) -> Bytes:
    """UNLABELLED of the pictures of a file, drawn."""
    with np.load(path) as stored:
        x = stored[stored.files[0]]
    return np.asarray(x[np.sort(rng.choice(len(x), min(UNLABELLED, len(x)), replace=False))])


def command(entry: Entry, asked: Asked, seed: int, few: Path, output: Path, report: Path) -> list[str]:
    """The command line of one run."""

    def numbers(value: float | tuple[float, ...]) -> str:
        return ",".join(map(repr, value if isinstance(value, tuple) else (value,)))

    places = (
        ["-o", f"{report}"] if asked.task == "audit" else ["-o", f"{output}", "--keep-partial", "--report", f"{report}"]
    )
    return [
        sys.executable, "-m", "onnx_shapprune", asked.task, f"{asked.zoo / entry.folder / entry.file}",
        "--data", "none" if asked.data_free else f"{few}", *places, "--seed", f"{seed}", "--threads", f"{asked.threads}",
        "--input-range", "0", repr(255 / entry.scale), f"--mean={numbers(entry.mean)}", f"--std={numbers(entry.std)}",
        "--layout", entry.layout, "-q", *asked.extra,
    ]  # fmt: skip


def run_child(line: Sequence[str], asked: Asked) -> Child:
    """Run one command line to its end or its time limit; the error is the last line on stderr of one that failed."""
    environment = os.environ | {"OMP_NUM_THREADS": str(asked.threads), "OPENBLAS_NUM_THREADS": str(asked.threads)}
    start = time.perf_counter()
    try:
        done = subprocess.run(
            line, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace", timeout=asked.timeout,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Child(None, f"stopped after {asked.timeout:.0f} s", time.perf_counter() - start)
    wall = time.perf_counter() - start
    said = done.stderr.strip().splitlines()
    return Child(done.returncode, said[-1] if said else "", wall)


def curve(model: Path, record: AuditRecord, scorer: Scorer, output: Path) -> tuple[list[Point], bool | None]:
    """True rates after every round of pruning, and whether baking the whole plan gives the very bytes of `output`.

    The rounds say how many units were off, the record's list of units which ones. A round that was taken back has more
    units than the list, and no rates.
    """
    file = load_model(model)
    layers = find_units(file.loaded, record.model.output).layers
    plan = record.units.off
    points = [Point(off=0, rates=scorer.rates(file.loaded.SerializeToString(), first=CURVE))]
    for step in record.repair.rounds:
        rates = None
        if step.off <= len(plan):
            baked = bake(file.loaded, layers, _by_layer(plan[: step.off]))
            rates = scorer.rates(baked.SerializeToString(), first=CURVE)
        points.append(Point(off=step.off, rates=rates))
    if not output.exists():
        return points, None
    return points, bake(file.proto, layers, _by_layer(plan)).SerializeToString() == output.read_bytes()


def _by_layer(units: Sequence[UnitRef]) -> dict[str, list[int]]:
    off: dict[str, list[int]] = {}
    for unit in units:
        off.setdefault(unit.layer, []).append(unit.channel)
    return off


def plan_text(record: AuditRecord) -> str:
    """Every round with the units that it switched off, as JSON; units is null for a round that was taken back."""
    rounds, done = [], 0
    for step in record.repair.rounds:
        units = (
            [u.model_dump() for u in record.units.off[done : step.off]] if step.off <= len(record.units.off) else None
        )
        rounds.append(step.model_dump() | {"units": units})
        done = step.off
    return json.dumps({"status": record.repair.status, "reason": record.repair.reason, "rounds": rounds}, indent=1)


def said(row: Row, record: AuditRecord) -> None:
    """Copy what the record says into a row."""
    row.verdict, row.target_classes = record.verdict, list(record.target_classes)
    if row.backdoored:
        # Every class is a target of an all-to-all backdoor.
        row.found = bool(row.target_classes) if row.true_target is None else row.true_target in row.target_classes
    row.score = record.score
    row.attacks = [f"{a.kind} {'+'.join(a.families)}" for a in record.attacks]
    row.norm_leader, row.margin_leader = leaders(record.classes)
    for part in record.classes:
        if part.index_of_class == row.true_target:
            row.true_norm_index, row.true_margin_index = part.index, part.margin_index
    row.units_off, row.units_total = len(record.units.off), record.units.total
    row.status, row.reason = record.repair.status, record.repair.reason
    row.few_before, row.few_after = few_rates(record.before), few_rates(record.after)
    row.method = record.repair.method
    held = [r for r in record.repair.rounds if not r.still_found] or list(record.repair.rounds)
    row.clean_cost_few = held[-1].clean_cost if held else None
    row.seconds, row.peak_memory_mb = dict(record.seconds), record.peak_memory_mb


def few_rates(rates: Rates | None) -> TrueRates | None:
    if rates is None or rates.acc is None:
        return None
    return TrueRates(acc=rates.acc, asr=rates.asr, racc=rates.racc)


def leaders(classes: Sequence[ClassPart]) -> tuple[Leader | None, Leader | None]:
    """The classes that lead by mask norm and by patch margin, with their anomaly indices."""
    norm = [Leader(target=c.index_of_class, index=c.index, value=c.norm) for c in classes if c.index is not None]
    margin = [
        Leader(
            target=c.index_of_class, index=c.margin_index, value=max((p.margin for p in c.compact), default=None)
        )
        for c in classes if c.margin_index is not None
    ]  # fmt: skip
    return max(norm, key=lambda x: x.index, default=None), max(margin, key=lambda x: x.index, default=None)


def run_one(entry: Entry, seed: int, asked: Asked) -> Row:
    """One (model, seed): the child process, then the scores."""
    target = entry.target if entry.backdoored and entry.kind != "all-to-all" else None
    row = Row(
        file=entry.file, kind=entry.kind, task=asked.task, data_free=asked.data_free, seed=seed, true_target=target
    )
    name = f"{seed}{'' if asked.task == 'sanitize' else f'-{asked.task}'}{'-data-free' if asked.data_free else ''}"
    kept = asked.out / entry.file / name
    kept.mkdir(parents=True, exist_ok=True)
    model, report = asked.zoo / entry.folder / entry.file, kept / "report.json"
    for stale in (report, kept / "plan.json", kept / "stderr.txt"):
        stale.unlink(missing_ok=True)
    known = None if entry.data is None else pictures(asked.data / f"{entry.data}.npz")
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        few, output = Path(folder) / "few.npz", Path(folder) / "output.onnx"
        if known is not None:
            shown, labels = few_shot(*known[:2], entry.classes, asked.per_class, np.random.default_rng(seed))
            np.savez(few, x=shown, y=labels)
        elif entry.pictures is not None:
            np.savez(few, x=unlabelled(asked.data / f"{entry.pictures}.npz", np.random.default_rng(seed)))
        child = run_child(command(entry, asked, seed, few, output, report), asked)
        row.exit_code, row.wall = child.code, round(child.wall, 2)
        scorer = None if known is None else Scorer(entry, asked.zoo, *known[2:], threads=asked.threads)
        row.true_before = scorer.rates(model) if scorer else None
        if not report.exists():
            row.error = child.error or f"exit code {child.code} and no record"
            return row
        record = AuditRecord.model_validate_json(report.read_bytes())
        said(row, record)
        (kept / "plan.json").write_text(plan_text(record))
        if scorer is None:
            return row
        if output.exists():
            # A byte-identical copy scores as the original does.
            same = output.read_bytes() == model.read_bytes()
            row.true_after = row.true_before if same else scorer.rates(output)
            if row.true_before and row.true_after:
                row.clean_cost_true = row.true_before.acc - row.true_after.acc
        if entry.backdoored and record.repair.rounds and not record.repair.layers:
            row.curve, row.plan_is_output = curve(model, record, scorer, output)
    return row


def publish(out: Path, task: str, *, data_free: bool) -> str:
    """Write results.csv and summary.md of one task from results.jsonl; returns the text of the latter."""
    rows = [r for r in read_rows(out / "results.jsonl") if r.task == task and r.data_free == data_free]
    text = f"{table(rows)}\n\n{summary(rows)}\n"
    suffix = ("" if task == "sanitize" else f"-{task}") + ("-data-free" if data_free else "")
    (out / f"results{suffix}.csv").write_text(csv_text(rows))
    (out / f"summary{suffix}.md").write_text(text)
    return text


def note(row: Row) -> str:
    """One line about a finished run."""
    rates = [f"{r.acc:.3f}/{'-' if r.asr is None else f'{r.asr:.3f}'}" for r in (row.true_before, row.true_after) if r]
    words = row.error or f"{row.verdict} {row.target_classes} {row.status}, {row.units_off} off"
    return f"{row.file} seed {row.seed}: {words}, ACC/ASR {' -> '.join(rates)}, {row.wall:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, help="folder with manifest.json")
    parser.add_argument("--data", type=Path, help="folder with the pictures; default: data/ beside the zoo")
    parser.add_argument("--data-free", action="store_true", help="give the audits no pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--seeds", type=lambda s: tuple(map(int, s.split(","))), default=(0, 1, 2))
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="models whose file name holds a TEXT")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--per-class", type=int, default=1, help="few-shot pictures per class")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds per run")
    parser.add_argument("--task", choices=("sanitize", "audit"), default="sanitize")
    parser.add_argument("--summary", action="store_true", help="only print the tables of what is there")
    parser.add_argument("extra", nargs="*", help="options for shapprune, after --")
    o = parser.parse_args()
    if not o.summary:
        if o.zoo is None:
            parser.error("--zoo is needed, unless with --summary")
        asked = Asked(
            zoo=o.zoo.resolve(), data=(o.data or o.zoo.resolve().parent / "data").resolve(), out=o.out.resolve(),
            task=o.task, data_free=o.data_free, threads=o.threads, per_class=o.per_class, timeout=o.timeout,
            extra=tuple(o.extra),
        )  # fmt: skip
        run_all(asked, o.seeds, o.only)
    print(publish(o.out, o.task, data_free=o.data_free), end="")
    return 0


def run_all(asked: Asked, seeds: Sequence[int], only: Sequence[str]) -> None:
    """Run what is not finished yet, model by model, one line on stderr for each."""
    asked.out.mkdir(parents=True, exist_ok=True)
    results = asked.out / "results.jsonl"
    manifest = json.loads((asked.zoo / "manifest.json").read_text())
    entries = [e for e in map(Entry.model_validate, manifest) if any(text in e.file for text in only)]
    done = {(r.file, r.seed, r.task, r.data_free) for r in read_rows(results)}
    for entry in entries:
        possible = asked.data_free or entry.data is not None or entry.pictures is not None
        for seed in seeds if possible else (-1,):
            if (entry.file, seed, asked.task, asked.data_free) in done:
                continue
            if not possible:
                row = Row(file=entry.file, kind=entry.kind, task=asked.task, skipped="no pictures of its classes")
            else:
                try:
                    row = run_one(entry, seed, asked)
                except Exception as error:  # one odd file must not end a night's work; it is tried again next time
                    print(f"{entry.file} seed {seed}: cannot be scored: {error!r}"[:500], file=sys.stderr, flush=True)
                    continue
            append_row(results, row)
            print(f"{row.file}: skipped, {row.skipped}" if row.skipped else note(row), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
