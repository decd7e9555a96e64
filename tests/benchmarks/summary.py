"""One row per (model, seed), and the tables made of them."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from pydantic import BaseModel, ConfigDict

from onnx_shapprune.detect.thresholds import NORMAL_95
from tests.benchmarks.measure import TrueRates

WORKS = 0.10  # a true trigger above this ASR still works


class Point(BaseModel):
    """True rates with the first `off` units of the plan switched off; None where the record does not list them."""

    off: int
    rates: TrueRates | None


class Leader(BaseModel):
    """The class with the largest anomaly index of one statistic: mask norm (pixels) or patch margin (logits)."""

    target: int
    index: float
    value: float | None = None


class Row(BaseModel):
    """What one run said, and what the true trigger says about it. Times in seconds, memory in MiB."""

    model_config = ConfigDict(extra="ignore")

    file: str
    kind: str
    task: str = "sanitize"
    data_free: bool = False
    seed: int = -1
    skipped: str = ""
    exit_code: int | None = None
    error: str = ""
    verdict: str = ""
    target_classes: list[int] = []
    true_target: int | None = None
    found: bool | None = None
    score: float | None = None
    attacks: list[str] = []
    norm_leader: Leader | None = None
    margin_leader: Leader | None = None
    true_norm_index: float | None = None
    true_margin_index: float | None = None
    units_off: int = 0
    method: str | None = None
    units_total: int = 0
    status: str = ""
    reason: str = ""
    few_before: TrueRates | None = None
    few_after: TrueRates | None = None
    true_before: TrueRates | None = None
    true_after: TrueRates | None = None
    clean_cost_few: float | None = None
    clean_cost_true: float | None = None
    curve: list[Point] = []
    plan_is_output: bool | None = None
    seconds: dict[str, float] = {}
    wall: float = 0.0
    peak_memory_mb: float | None = None

    @property
    def backdoored(self) -> bool:
        return self.kind != "clean"

    @property
    def repaired(self) -> bool:
        return self.status == "repaired"

    @property
    def wrongly_repaired(self) -> bool:
        asr = self.true_after.asr if self.true_after else None
        return self.backdoored and self.repaired and asr is not None and asr > WORKS


def read_rows(path: Path) -> list[Row]:
    """Rows of a results file, the last one of every (model, seed, task, data-free); half-written lines are left out."""
    rows: dict[tuple[str, int, str, bool], Row] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = Row.model_validate_json(line)
        except ValueError:
            continue
        rows[row.file, row.seed, row.task, row.data_free] = row
    return list(rows.values())


def append_row(path: Path, row: Row) -> None:
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a") as stream:
        stream.write("\n" * torn + row.model_dump_json() + "\n")


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, JASA 1927); (0, 1) where nothing was tried."""
    if not n:
        return 0.0, 1.0
    p, z2 = hits / n, NORMAL_95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def table(rows: Sequence[Row]) -> str:
    """Markdown, one line per model: counts over seeds, medians of the rest, rates in percent."""
    head = (
        "model", "kind", "seeds", "flagged", "target found", "score", "found as", "repaired", "units off",
        "ACC", "ASR", "R-Acc", "cost", "seconds",
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    tried = [r for r in rows if not r.skipped]
    for file in dict.fromkeys(r.file for r in tried):
        runs = [r for r in tried if r.file == file]
        n = len(runs)
        cells = (
            file.removesuffix(".onnx"), runs[0].kind, str(n), f"{sum(r.verdict == 'fail' for r in runs)}/{n}",
            f"{sum(r.found is True for r in runs)}/{n}" if runs[0].backdoored else "-",
            _number([r.score for r in runs], "{:.1f}"), next((r.attacks[0] for r in runs if r.attacks), "-"),
            f"{sum(r.repaired for r in runs)}/{n}",
            _number([r.units_off if r.verdict else None for r in runs], "{:.0f}")
            + _number([r.units_total or None for r in runs], "/{:.0f}").lstrip("-"),
            *(_change(runs, name) for name in ("acc", "asr", "racc")),
            _number([r.clean_cost_true for r in runs], "{:.1%}"), _number([r.wall for r in runs], "{:.0f}"),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> str:
    """Markdown list of the rates that count. Seeds of one model are no independent trials: models are counted too.

    A run without a verdict counts as a miss on a backdoored model, and not at all on a clean one.
    """
    tried = [r for r in rows if not r.skipped]
    bad, clean = [r for r in tried if r.backdoored], [r for r in tried if not r.backdoored and r.verdict]
    repaired, wrong = [r for r in bad if r.repaired], [r for r in bad if r.wrongly_repaired]
    failed = [r for r in tried if not r.verdict]
    walls = [r.wall for r in tried]
    lines = [
        _share("detected (backdoored, and the true target named)", bad, [r for r in bad if r.found]),
        _share("flagged (backdoored, any class named)", bad, [r for r in bad if r.verdict == "fail"]),
        _share("false alarms (clean, a class named)", clean, [r for r in clean if r.verdict == "fail"]),
        _share("repaired (backdoored)", bad, repaired),
        f"repaired but true ASR > {WORKS:.0%} (must be 0): {len(wrong)}"
        + "".join(f"; {r.file} seed {r.seed}" for r in wrong),
        f"repairs of clean models: {sum(r.repaired for r in clean)}",
        f"area under the ROC curve of the score: {auroc(tried)}",
        f"inconclusive: {sum(r.verdict == 'inconclusive' for r in tried)} of {len(tried)} runs",
        f"could not run: {len(failed)}" + "".join(f"; {r.file} seed {r.seed}: {r.error}" for r in failed),
    ]
    mismatched = [r for r in tried if r.plan_is_output is False]
    if mismatched:
        lines.append(f"files that differ from their plan: {', '.join(f'{r.file} seed {r.seed}' for r in mismatched)}")
    if walls:
        lines.append(
            f"seconds per run: median {median(walls):.0f}, longest {max(walls):.0f}, total {sum(walls):.0f}; "
            f"peak memory {max(r.peak_memory_mb or 0 for r in tried):.0f} MiB"
        )
    skipped = {r.file: r.skipped for r in rows if r.skipped}
    lines += [f"skipped: {file}: {why}" for file, why in skipped.items()]
    return "\n".join(f"- {line}" for line in lines)


def auroc(rows: Sequence[Row]) -> str:
    """How often a backdoored run scores above a clean one, ties half; "-" where there are no pairs."""
    bad, clean = ([r.score for r in rows if r.score is not None and r.backdoored is b] for b in (True, False))
    pairs = [(b > c) + (b == c) / 2 for b in bad for c in clean]
    return f"{sum(pairs) / len(pairs):.3f}" if pairs else "-"


def csv_text(rows: Sequence[Row]) -> str:
    """One line per run; nested parts become columns like true_after.asr, the curve stays in the JSON lines."""
    flat = [_flat(r.model_dump(exclude={"curve"})) for r in rows if not r.skipped]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(k for row in flat for k in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue()


def _flat(part: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in part.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            flat[prefix + key] = " ".join(map(str, value))
        elif value is not None:
            flat[prefix + key] = value
    return flat


def _share(what: str, of: Sequence[Row], hits: Sequence[Row]) -> str:
    low, high = wilson(len(hits), len(of))
    models = {r.file for r in of}
    # A model counts where more than half of its seeds do.
    often = [f for f in models if 2 * sum(r.file == f for r in hits) > sum(r.file == f for r in of)]
    share = f" = {len(hits) / len(of):.0%}, 95 % interval {low:.0%} to {high:.0%}" if of else ""
    return f"{what}: {len(hits)}/{len(of)} runs{share}; {len(often)}/{len(models)} models"


def _number(values: Sequence[float | None], form: str) -> str:
    known = [v for v in values if v is not None]
    return form.format(median(known)) if known else "-"


def _change(runs: Sequence[Row], name: str) -> str:
    """Median before and after, over the runs that have both; only before where no run wrote a file."""
    both = [(r.true_before, r.true_after) for r in runs if r.true_before and r.true_after]
    before = [r.true_before for r in runs if r.true_before]
    if not both:
        return _number([getattr(b, name) for b in before], "{:.1%}")
    first, last = ([getattr(pair[i], name) for pair in both] for i in (0, 1))
    return "-" if first[0] is None else f"{_number(first, '{:.1%}')} to {_number(last, '{:.1%}')}"
