"""Audit the bundled sample under every edit of tests/evasions, and write down what became of it.

    python -m tests.benchmarks.evasions --out RESULTS.jsonl [--only NAME ...] [--threads 1]

One line per edit: its group, accuracy and attack success rate of the file as deployed (300 test pictures, one at a time,
the true trigger), the verdict, its first reason, and seconds. Edits that stand in RESULTS.jsonl are not repeated. No
backdoored variant may pass; no clean one may fail. Run from the root of the repository; an audit takes 10 to 40 seconds.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from onnx_shapprune.commands.audit import audit
from onnx_shapprune.errors import ShapPruneError
from onnx_shapprune.sample import sample_path
from onnx_shapprune.settings import InputOptions, RunOptions

sys.path[:0] = [str(Path(__file__).parents[1] / "evasions"), str(Path(__file__).parents[1])]  # for what tests import
from edits import HONEST, KEEPING, PLANTED, SWITCHES, Design  # noqa: E402
from sample_design import sample_design  # noqa: E402

GROUPS = {"keeping": KEEPING, "switches": SWITCHES, "planted": PLANTED, "honest": HONEST}
MEASURED = 300


def measured(model: onnx.ModelProto, design: Design) -> tuple[float, float]:
    """Accuracy, and how often the true trigger leads to its class."""
    test = np.load(sample_path("test.npz"))
    x, y = test["x"][:MEASURED].astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255), test["y"][:MEASURED]
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    stamped = x * (1 - design.mask) + design.mask * design.pattern
    clean, moved = (
        np.array([session.run(None, {"input": row[None].astype(np.float32)})[0].argmax() for row in rows])
        for rows in (x, stamped)
    )
    others = y != design.target
    return float((clean == y).mean()), float((moved[others] == design.target).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    design = sample_design()
    done = {json.loads(line)["edit"] for line in asked.out.read_text().splitlines()} if asked.out.exists() else set()
    for group, edits in GROUPS.items():
        for name, edit in edits.items():
            if name in done or (asked.only and name not in asked.only):
                continue
            model = edit(design)
            acc, asr = measured(model, design)
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{name}.onnx"
                onnx.save(model, path)
                inputs = InputOptions(output="scores" if len(model.graph.output) > 1 else None)
                try:
                    record = audit(path, sample_path("pictures"), inputs=inputs, run=RunOptions(threads=asked.threads))
                    verdict, reason = record.verdict, record.reasons[0]
                except ShapPruneError as error:
                    verdict, reason = "could not run", str(error)
            seconds = round(time.perf_counter() - start, 1)
            row = {"group": group, "edit": name, "acc": acc, "asr": asr, "verdict": verdict, "reason": reason}
            with asked.out.open("a") as stream:
                stream.write(json.dumps({**row, "seconds": seconds}) + "\n")
            print(
                f"{group:9s} {name:32s} {acc:.3f} {asr:.3f} {verdict:14s} {seconds:5.1f} s {reason[:100]}", flush=True
            )


if __name__ == "__main__":
    main()
