"""Try every edit of tests/evasions on a backdoored network and its clean twin, and write down what became of it.

    python -m tests.benchmarks.evasions --out RESULTS.jsonl [--model ZOO/backdoored/NAME.onnx --clean FILE --data FOLDER]
        [--only NAME ...] [--audit] [--threads 1]

One line per edit: its group, accuracy and attack success rate of the file as deployed (300 test pictures, one at a time,
the true trigger), and what holds it before any search:

* "doubt": the reason that keeps it from a pass, whatever the searches say;
* "same": searches see the scores and slopes of the network without the edit, so that its audit is theirs;
* "refused": it cannot be audited; "nothing": only a whole audit can tell; "does not fit": onnxruntime does not run it.

Whole audits, of 10 to 60 seconds each, are made where nothing holds, of the clean twin, or of all with --audit. No
backdoored variant may pass; no clean one may fail. Edits that stand in RESULTS.jsonl are not repeated. The default is the
bundled sample; other networks stand in a manifest.json as tests.benchmarks.poison writes it, with pictures in
FOLDER/<data>.npz, and have a clean network of the same pictures beside them. Run from the root of the repository.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from onnx_shapprune.case.open import Case, open_case
from onnx_shapprune.commands.audit import audit
from onnx_shapprune.detect.deployed import deployed_doubts, gradient_doubt
from onnx_shapprune.detect.silent import silent_doubt
from onnx_shapprune.errors import ShapPruneError
from onnx_shapprune.graph.provenance.oddities import graph_doubt
from onnx_shapprune.sample import sample_path
from onnx_shapprune.settings import InputOptions, RunOptions
from tests.benchmarks.detection import pictures
from tests.benchmarks.measure import TrueTrigger, entries, few_shot

sys.path[:0] = [str(Path(__file__).parents[1] / "evasions"), str(Path(__file__).parents[1])]  # for what tests import
from bounded_edits import HONEST, KEEPING, PLANTED, SWITCHES  # noqa: E402
from edits import Design, Edit  # noqa: E402
from sample_design import sample_design  # noqa: E402

GROUPS = {"keeping": KEEPING, "switches": SWITCHES, "planted": PLANTED, "honest": HONEST}
FAILED = tuple(
    getattr(ort.capi.onnxruntime_pybind11_state, name) for name in ("Fail", "InvalidArgument", "InvalidGraph")
)
MEASURED = 300
PER_CLASS = 3
ALIKE = 1e-3  # of the spread of the scores, and of the largest slope


@dataclass(frozen=True)
class Tried:
    """A network under attack. few: pictures for the audit; inputs: how it takes them; x, y: test pictures as it takes them
    [n, channels, h, w] and their labels.
    """

    name: str
    design: Design
    few: Path
    inputs: InputOptions
    x: np.ndarray
    y: np.ndarray


def bundled() -> Tried:
    test = np.load(sample_path("test.npz"))
    x = test["x"][:MEASURED].astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255)
    return Tried("sample", sample_design(), sample_path("pictures"), InputOptions(), x, test["y"][:MEASURED])


def listed(model: Path, clean: Path, data: Path, folder: Path) -> Tried:
    """A network of a manifest; its pictures for the audit are written into `folder`."""
    zoo = model.parents[1]
    found = {e.file: e for e in entries(zoo)}
    entry = found[model.name]
    trigger = TrueTrigger.load(zoo / "triggers" / f"{entry.trigger}.npz")
    shot_x, shot_y, x, y = pictures(data / f"{entry.data}.npz")
    shot_x, shot_y = few_shot(shot_x, shot_y, entry.classes, PER_CLASS, np.random.default_rng(0))
    np.savez(folder / "few.npz", x=shot_x, y=shot_y)
    pattern = entry.as_input(trigger.pattern[None])[0].astype(float)
    mask = (np.broadcast_to(trigger.mask, trigger.pattern.shape) > 0).astype(float).transpose(2, 0, 1)
    twin, backdoored = onnx.load(clean), onnx.load(model)
    design = Design(backdoored, twin, mask, pattern, int(entry.target or 0))
    mean, std = (tuple(map(float, np.atleast_1d(v))) for v in (entry.mean, entry.std))
    inputs = InputOptions(input_range=(0, 255 / entry.scale), mean=mean, std=std)
    return Tried(
        model.stem, design, folder / "few.npz", inputs, entry.as_input(x[:MEASURED].astype(np.float32)), y[:MEASURED]
    )


def measured(model: onnx.ModelProto, tried: Tried) -> tuple[float, float]:
    """Accuracy, and how often the true trigger leads to its class, as deployed: one picture at a time."""
    d = tried.design
    stamped = tried.x * (1 - d.mask) + d.mask * d.pattern
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    clean, moved = (
        np.array([session.run(None, {name: row[None].astype(np.float32)})[0].argmax() for row in rows])
        for rows in (tried.x, stamped)
    )
    others = tried.y != d.target
    return float((clean == tried.y).mean()), float((moved[others] == d.target).mean())


def held(path: Path, tried: Tried, inputs: InputOptions, plain: Case) -> tuple[str, str]:
    """(what holds a file before any search, in words)."""
    try:
        case = open_case(path, tried.few, inputs, RunOptions(threads=1, device="cpu"))
    except ShapPruneError as error:
        return "refused", str(error)
    rng = np.random.default_rng(0)
    subject = case.model.subject
    for reason in (graph_doubt(case.model.oddities), silent_doubt(case.model, case.pictures)):
        if reason:
            return "doubt", reason
    if reason := gradient_doubt(subject, case.pictures, rng):
        return "doubt", reason
    if reasons := deployed_doubts(case.model, case.pictures, (), rng):
        return "doubt", reasons[0]
    return ("same", "") if same(case, plain) else ("nothing", "")


def same(case: Case, plain: Case) -> bool:
    """Whether scores and slopes are those of another network but for one factor and a constant, class by class."""
    one, other = plain.model.subject, case.model.subject
    classes = list(other.reachable)
    if other.obstacle or len(classes) != one.classes:
        return False
    shown = plain.pictures[:16]
    for c in range(one.classes):
        z, slope = one.gradient(shown, np.full(len(shown), c, np.int64))
        edited_z, edited_slope = other.gradient(shown, np.full(len(shown), classes[c], np.int64))
        gain = np.ptp(edited_z[:, classes]) / np.ptp(z)
        z, edited_z = (s - s.mean(axis=1, keepdims=True) for s in (z, edited_z[:, classes]))
        if np.abs(edited_z / gain - z).max() > ALIKE * np.ptp(z):
            return False
        if np.abs(edited_slope / gain - slope).max() > ALIKE * np.abs(slope).max():
            return False
    return True


def audited(path: Path, tried: Tried, inputs: InputOptions, threads: int) -> tuple[str, str]:
    try:
        record = audit(path, tried.few, inputs=inputs, run=RunOptions(threads=threads))
    except ShapPruneError as error:
        return "could not run", str(error)
    return record.verdict, record.reasons[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--clean", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--audit", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = asked.model, asked.clean, asked.data
        tried = bundled() if None in given else listed(*given, Path(folder))
        picture = tried.x[np.flatnonzero(tried.y == tried.design.target)[0]]
        tried = replace(tried, design=replace(tried.design, of_target=picture.astype(float)))
        lines = asked.out.read_text().splitlines() if asked.out.exists() else []
        done = {(row["model"], row["edit"]) for row in map(json.loads, lines)}
        plain: dict[str, Case] = {}
        for name in ("backdoored", "clean"):
            path = Path(folder) / f"{name}.onnx"
            onnx.save(getattr(tried.design, name), path)
            plain[name] = open_case(path, tried.few, tried.inputs, RunOptions(threads=1, device="cpu"))
        for group, edits in GROUPS.items():
            for name, edit in edits.items():
                if (tried.name, name) not in done and (not asked.only or name in asked.only):
                    of = plain["clean" if edits in (PLANTED, HONEST) else "backdoored"]
                    row = {"model": tried.name, "group": group, **tried_once(name, edit, tried, of, asked)}
                    with asked.out.open("a") as stream:
                        stream.write(json.dumps(row) + "\n")
                    print(*(f"{v:.3f}" if isinstance(v, float) else str(v)[:90] for v in row.values()), flush=True)


def tried_once(name: str, edit: Edit, tried: Tried, plain: Case, asked: argparse.Namespace) -> dict[str, object]:
    """One edit: the rest of its line."""
    model = edit(tried.design)
    try:
        acc, asr = measured(model, tried)
    except FAILED as error:  # edits that go into a network's layers are made for the layers that they know
        return {"edit": name, "held": "does not fit", "reason": str(error).splitlines()[0]}
    inputs = replace(tried.inputs, output="scores" if len(model.graph.output) > 1 else None)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        onnx.save(model, path)
        by, reason = held(path, tried, inputs, plain)
        verdict = ""
        if asked.audit or by == "nothing" or name == "plain":
            verdict, reason = audited(path, tried, inputs, asked.threads)
    seconds = round(time.perf_counter() - start, 1)
    return {"edit": name, "acc": acc, "asr": asr, "held": by, "verdict": verdict, "seconds": seconds, "reason": reason}


if __name__ == "__main__":
    main()
