"""What the graphs of many architectures raise that nobody made to hide anything: the smallest of each family of timm.

    python -m tests.benchmarks.architectures --out FILE.jsonl [--only FAMILY ...] [--seconds 1800]

Random weights, ten classes, exported by TorchScript with an open batch. Needs timm beside torch. A line for each family:
what the rules about graphs doubt, and, where the file opens, which step makes something else of a picture among others,
which operators keep gradients from the picture, and how far the working copy is from the file. Families that have a line are
not asked again; nothing new is begun after --seconds.
"""

import argparse
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import timm
import torch

from onnx_shapprune.case.open import open_model
from onnx_shapprune.detect.company import company_doubt
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.provenance.oddities import graph_doubt, oddities
from onnx_shapprune.runtime.session import resolve_device
from onnx_shapprune.settings import InputOptions
from tests.benchmarks import lines

LARGEST = 40_000_000  # weights
LOOKED_AT = 14  # models of a family, the first by name


def families() -> dict[str, list[str]]:
    """First word of the names -> names."""
    found: dict[str, list[str]] = {}
    for name in timm.list_models():
        found.setdefault(re.split(r"[_0-9]", name)[0], []).append(name)
    return found


def smallest(names: list[str]) -> tuple[int, str]:
    """Weights and name."""
    sizes = []
    for name in names[:LOOKED_AT]:
        with torch.device("meta"):
            sizes.append((sum(p.numel() for p in timm.create_model(name, num_classes=10).parameters()), name))
    return min(sizes)


def row_of(models: list[str], path: Path) -> dict[str, Any]:
    """What the smallest of a family raises."""
    weights, name = smallest(models)
    if weights > LARGEST:
        return {"model": name, "error": "too large"}
    net = timm.create_model(name, num_classes=10).eval()
    shown = torch.rand(2, *net.default_cfg["input_size"])
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    with torch.no_grad():
        torch.onnx.export(net, (shown[:1],), str(path), dynamo=False, opset_version=17, **names)
    model = onnx.load(path)
    found = {"model": name, "doubt": graph_doubt(oddities(model, find_interface(model)))}
    opened = open_model(path, InputOptions(), resolve_device("cpu", threads=1))
    company = company_doubt(opened, 255 * shown.permute(0, 2, 3, 1).numpy(), np.random.default_rng(0))
    subject = opened.subject
    return found | {"company": company, "obstacle": subject.obstacle, "difference": subject.prepared.difference}


def rows(only: list[str], done: set[str], seconds: float) -> Iterator[dict[str, Any]]:
    """Of the families that are not done."""
    end = time.monotonic() + seconds
    for family, models in families().items():
        if family in done or (only and family not in only) or time.monotonic() > end:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = row_of(models, Path(folder, "model.onnx"))
            except Exception as error:  # of exporters, of any kind
                row = {"error": f"{type(error).__name__}: {error}"[:200]}
        yield {"family": family, **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=1800)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    found = lines.read(asked.out)
    lines.keep(rows(asked.only, {row["family"] for row in found}, asked.seconds), asked.out, found)


if __name__ == "__main__":
    main()
