"""What the tool makes of every .onnx file below a folder, as a Markdown table.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.coverage --zoo DIR [--only TEXT ...] [--write]

With --write the table replaces the one in docs/pages/models.md. Every file is read, its classifier and units found. Where
it is a classifier, three things are checked: the gradient against finite differences; random units masked against the same
units baked into the file; and that nothing but their bytes differs. No audit is run. Run from the root of the repository.
"""

import argparse
import datetime
import math
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort

from onnx_shapprune.errors import ShapPruneError, UnsupportedOpError
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.runtime.probe import largest_difference
from tests import pages
from tests.equations import DEVICE, gradient_error, logits, masked_logits, random_units, unplanned

OPEN_SIZE = 48  # pixels, for a side that the file leaves open
HEADER = (
    "| file | classifier | units | layers without | gradient error | masked - baked | other bytes |",
    "|---|---|---|---|---|---|---|",
)


def survey(path: Path) -> list[str]:
    """The cells of one file: classifier, units, refused layers, gradient error, masked - baked, other bytes."""
    try:
        model = load_model(path).loaded
        interface = find_interface(model)
        if None in interface.dims:
            interface = find_interface(model, size=(OPEN_SIZE, OPEN_SIZE))
        shape = tuple(d or 0 for d in interface.dims)
        prepared = prepare(model, interface, shape, DEVICE)
    except ShapPruneError as error:
        return [f"refused: {error}", *[""] * 5]
    units = find_units(model, interface.output)
    kinds = Counter(layer.op for layer in units.layers)
    refused = Counter(f"{r.op}: {r.reason}" for r in units.refused if r.reason != "makes the class scores")
    size = "x".join(map(str, shape))
    cells = [
        f"{size} {interface.layout}, {prepared.classes} classes" + ("" if prepared.batch_free else ", one by one"),
        f"{units.total} in " + ", ".join(f"{n} {op}" for op, n in kinds.items()),
        "; ".join(f"{n} {reason}" for reason, n in refused.items()) or "-",
    ]
    rng = np.random.default_rng(0)
    x = rng.random((1, *shape), np.float32)
    try:
        error = gradient_error(prepared, x, rng)
        cells.append("too flat to tell" if math.isnan(error) else f"{error:.0e}")
    except UnsupportedOpError as error:
        cells.append(f"none: {error}")
    off = random_units(units, rng)
    baked = bake(model, units.layers, off)
    try:
        difference = largest_difference(
            logits(prepare(baked, interface, shape, DEVICE), x), masked_logits(prepared, units, off, x)
        )
        cells.append(f"{difference:.0e}")
    except ShapPruneError as error:
        cells.append(str(error))
    return [*cells, "; ".join(unplanned(model, baked, units, off)) or "none"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[""], help="files whose name holds one of these")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    lines = [f"Seen on {datetime.date.today()} with onnxruntime {ort.__version__}, one thread:", "", *HEADER]
    for path in sorted(asked.zoo.rglob("*.onnx")):
        if any(text in path.name for text in asked.only):
            begun = time.perf_counter()
            cells = [" ".join(cell.split()).replace("|", "\\|") for cell in survey(path)]
            lines.append(f"| {path.stem} | " + " | ".join(cells) + " |")
            print(f"{path.name}: {time.perf_counter() - begun:.1f} s", file=sys.stderr)
    if asked.write:
        pages.write(pages.PAGES / "models.md", {"coverage": lambda: "\n".join(lines)})
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
