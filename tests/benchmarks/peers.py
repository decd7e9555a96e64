"""Our repairs beside other defences, on the same networks and the same few pictures.

    python -m tests.benchmarks.peers --zoo DIR/zoo --data DIR/data --out RESULTS --only TEXT ... [--methods NAME ...]
        [--shown 1] [--seed 0] [--threads 1]
    python -m tests.benchmarks.peers --out RESULTS --summary [--plot FILE.png]

The folders are those of tests.benchmarks.detection. Every defence gets the file and --shown labelled pictures a class, drawn
by --seed, and nothing else: nobody knows the trigger, and no threshold is chosen by what is measured afterwards. With
--shown 0 those run that need no pictures. ACC, true ASR and R-Acc: on 2,000 test pictures.

* The defences of others: tests.benchmarks.defences, one a module, which say what is published and what was filled in. Those
  that learn need torch, and take a GPU where torch has one.
* ours: `sanitize` by each method, and by the published stages; of a repair that failed, what --keep-partial writes, and
  the status says so. On the CPU, as the measuring is.

RESULTS gets peers.jsonl, a line for each file, method, number of pictures and seed; finished lines are not computed again,
and several processes may add to one folder if their --only or --methods differ. Seconds: of the clock, and of the processor
in --threads threads, our audits included.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from onnx_shapprune.commands.output import Output
from onnx_shapprune.commands.repair import sanitize
from onnx_shapprune.settings import RECIPES, InputOptions, RunOptions
from tests.benchmarks import lines
from tests.benchmarks.detection import MEASURED, pictures
from tests.benchmarks.measure import Entry, Scorer, entries
from tests.benchmarks.quality import Known

PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "CLP": ("clp", {}),
    "prune dormant": ("dormant", {}),
    "fine-tune, 0.01": ("fine_tuning", {"rate": 0.01}),
    "fine-tune, 0.001": ("fine_tuning", {"rate": 0.001}),
    "fine-pruning, 0.01": ("fine_tuning", {"rate": 0.01, "pruned": True}),
    "fine-pruning, 0.001": ("fine_tuning", {"rate": 0.001, "pruned": True}),
    "NC": ("cleanse", {}),
    "ANP": ("anp", {}),
    "I-BAU": ("ibau", {}),
    "AWM": ("awm", {}),
    "RNP": ("rnp", {}),
    "FT-SAM": ("sam", {}),
}  # module of tests.benchmarks.defences, and its options
OURS: dict[str, dict[str, Any]] = {f"ours: {name}": {"method": name} for name in ("prune", "realign", "auto")} | {
    "ours: --recipe shappruning": {"recipe": "shappruning", **RECIPES["shappruning"]}
}
METHODS = ("none", *PEERS, *OURS)
PICTURELESS = ("none", "CLP", *OURS)  # those that need no pictures


def ours(net: Known, entry: Entry, zoo: Path, run: RunOptions, *, shown: bool) -> tuple[bytes | None, str]:
    """The file that `sanitize` writes with these settings, and the status of the repair. shown: whether it gets pictures."""
    with tempfile.TemporaryDirectory() as folder:
        few, out = Path(folder) / "few.npz", Path(folder) / "out.onnx"
        np.savez(few, x=net.shown.pictures.astype(np.uint8), y=net.shown.labels)
        output, given = Output(out, keep_partial=True), few if shown else None
        record = sanitize(zoo / entry.folder / entry.file, given, output=output, inputs=options(entry), run=run)
        off = f", {len(record.units.off)} units off" if record.units.off else ""
        return out.read_bytes() if out.exists() else None, f"{record.repair.status.replace('_', ' ')}{off}"


def options(entry: Entry) -> InputOptions:
    """How pictures become the input of a network."""
    mean, std = (v if isinstance(v, tuple) else (v,) for v in (entry.mean, entry.std))
    return InputOptions(input_range=(0, 255 / entry.scale), mean=mean, std=std, layout=entry.layout)


def defended(method: str, net: Known, entry: Entry, o: argparse.Namespace) -> tuple[bytes | None, str]:
    """A network after one defence, None where there is none, and what is to be said of it."""
    if method == "none":
        return (o.zoo / entry.folder / entry.file).read_bytes(), ""
    if method in OURS:
        run = RunOptions(threads=o.threads, device="cpu", **OURS[method])
        return ours(net, entry, o.zoo, run, shown=o.shown > 0)
    module, given = PEERS[method]
    try:
        made, said = import_module(f"tests.benchmarks.defences.{module}").repaired(net, **given)
    except ValueError as reason:
        return None, str(reason)
    return made.SerializeToString(), said


def key(row: dict[str, Any]) -> tuple[str, int, int, str]:
    """What a line is about. Old ones have a picture a class, of seed 0."""
    return row["file"], row.get("shown", 1), row.get("seed", 0), row["method"]


def rows(entry: Entry, o: argparse.Namespace, done: set[tuple[str, int, int, str]]) -> Iterator[dict[str, object]]:
    """What is missing for one network."""
    possible = [m for m in o.methods if o.shown or m in PICTURELESS]
    wanted = [m for m in possible if (entry.file, o.shown, o.seed, m) not in done]
    if not wanted:
        return
    net = Known(entry, o.zoo, o.data, per_class=max(1, o.shown), seed=o.seed)
    _, _, x_test, y_test = pictures(o.data / f"{entry.data}.npz")
    scorer = Scorer(entry, o.zoo, x_test[:MEASURED], y_test[:MEASURED], threads=o.threads)
    with contextlib.suppress(ImportError):
        import torch  # its loading takes seconds that belong to no defence, and so does its first word with a GPU

        torch.set_num_threads(o.threads)
        torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu")
    for method in wanted:
        clock, processor = time.perf_counter(), time.process_time()
        file, said = defended(method, net, entry, o)
        seconds, wall = time.process_time() - processor, time.perf_counter() - clock
        rates = None if file is None else scorer.rates(file).model_dump()
        yield {
            "file": entry.file, "shown": o.shown, "seed": o.seed, "method": method, "seconds": seconds, "wall": wall,
            "said": said, "rates": rates,
        }  # fmt: skip


def summary(found: list[dict[str, Any]]) -> str:
    """A table: rates in %, means where there are several draws of pictures."""
    lines = [
        "| network | a class | defence | ACC | true ASR | R-Acc | s | wall | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for file, shown in dict.fromkeys(key(r)[:2] for r in found):
        for method in METHODS:
            mine = [r for r in found if key(r)[:2] == (file, shown) and r["method"] == method]
            if not mine:
                continue
            rates = [r["rates"] for r in mine if r["rates"]]
            cells = [f"{100 * np.mean([r[k] for r in rates]):.1f}" if rates else "-" for k in ("acc", "asr", "racc")]
            cells += [f"{np.mean([r.get(k, np.nan) for r in mine]):.1f}" for k in ("seconds", "wall")]
            said = mine[0]["said"] if len(mine) == 1 else f"{len(rates)} of {len(mine)} draws"
            lines.append(f"| {file.removesuffix('.onnx')} | {shown} | {method} | {' | '.join(cells)} | {said} |")
    return "\n".join(lines)


def overall(found: list[dict[str, Any]]) -> str:
    """A table over networks and draws, each a number of pictures: how much accuracy a defence costs, what it leaves of the
    trigger, and the mean of R-Acc and 100 - ASR with its 95 % interval, by a bootstrap of networks. One that gives no file
    leaves the network as it was.
    """
    lines = [
        "| a class | defence | networks | draws | no file | ACC lost | true ASR | R-Acc | mean of 100 - ASR and R-Acc | s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    before = {key(r)[:3]: r["rates"] for r in found if r["method"] == "none"}
    for shown in sorted({key(r)[1] for r in found}):
        for method in METHODS:
            mine = [r for r in found if (key(r)[1], r["method"]) == (shown, method) and key(r)[:3] in before]
            if not mine:
                continue
            each: dict[str, list[tuple[float, float, float]]] = {}
            for r in mine:
                was = before[key(r)[:3]]
                rates = r["rates"] or was
                each.setdefault(r["file"], []).append((was["acc"] - rates["acc"], rates["asr"], rates["racc"]))
            means = 100 * np.array([np.mean(v, axis=0) for v in each.values()])
            good = (100 - means[:, 1] + means[:, 2]) / 2
            rng = np.random.default_rng(0)
            low, high = np.percentile(rng.choice(good, (10_000, len(good))).mean(1), (2.5, 97.5))
            cells = [shown, method, len(each), len(mine), sum(not r["rates"] for r in mine)]
            cells += [f"{v:.1f}" for v in means.mean(0)]
            cells += [f"{good.mean():.1f} ({low:.0f} to {high:.0f})", f"{np.mean([r['seconds'] for r in mine]):.0f}"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def plot(found: list[dict[str, Any]], png: Path) -> None:
    """What each defence leaves of the trigger and costs in accuracy, with one picture a class, a point a network and draw;
    and a bar for the mean of R-Acc and the share of triggered pictures that no longer reach the target, with the number of
    networks.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    mine = [r for r in found if key(r)[1] == 1 and r["rates"]]
    before = {(key(r)[0], key(r)[2]): r["rates"]["acc"] for r in mine if r["method"] == "none"}
    figure, (points, bars) = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    names = [m for m in METHODS if any(r["method"] == m for r in mine)]
    for place, name in enumerate(names):
        rows = [r for r in mine if r["method"] == name]
        colour = "C3" if name in OURS else "0.6"
        good = np.mean([50 * (1 - r["rates"]["asr"] + r["rates"]["racc"]) for r in rows])
        bars.barh(place, good, color=colour)
        if name != "none":
            lost = [100 * (before[key(r)[0], key(r)[2]] - r["rates"]["acc"]) for r in rows]
            left = [100 * r["rates"]["asr"] for r in rows]
            look = {"marker": "*", "s": 120} if name in OURS else {"marker": "ov^<>sPXDdph"[place % 12], "s": 30}
            points.scatter(lost, left, color=f"C{place % 10}", label=name, **look)
    points.set_xlabel("points of accuracy lost")
    points.set_ylabel("true ASR left, %")
    points.grid(alpha=0.3)
    points.legend(fontsize="x-small", loc="center right")
    counts = [len({key(r)[0] for r in mine if r["method"] == name}) for name in names]
    bars.set_yticks(range(len(names)), [f"{n} ({c})" for n, c in zip(names, counts, strict=True)])
    bars.invert_yaxis()
    bars.set_xlabel("mean of R-Acc and 100 - ASR, %")
    figure.savefig(png, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, metavar="NAME")
    parser.add_argument("--shown", type=int, default=1, metavar="N", help="pictures a class (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of pictures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    results = o.out / "peers.jsonl"
    found = lines.read(results)
    done = {key(r) for r in found}
    for entry in [] if o.summary else entries(o.zoo):
        if entry.kind == "all-to-one" and any(text in entry.file for text in o.only):
            lines.keep(rows(entry, o, done), results, found)
    print(summary(found))
    print(overall(found))
    if o.plot:
        plot(found, o.plot)


if __name__ == "__main__":
    main()
