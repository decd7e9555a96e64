"""Our repairs beside other defences, on the same networks and the same few pictures.

    python -m tests.benchmarks.peers --zoo DIR/zoo --data DIR/data --out RESULTS --only TEXT ... [--methods NAME ...]
    python -m tests.benchmarks.peers --out RESULTS --summary

The folders are those of tests.benchmarks.detection. Every defence gets the file and one labelled picture a class, and
nothing else: nobody knows the trigger, and no threshold is chosen by what is measured afterwards. ACC, true ASR and R-Acc:
on 2,000 test pictures. Seconds are of the processor, of one thread, our audits included.

* CLP: Zheng et al., "Data-free Backdoor Removal Based on Channel Lipschitzness", ECCV 2022. Convolution channels (with
  the normalisation behind them folded in) whose largest singular value is above mean + 3 deviations of their layer are
  switched off. Looks at no picture.
* prune dormant: the pruning of Fine-Pruning (Liu, Dolan-Gavitt, Garg, RAID 2018). Channels of the last convolution are
  switched off, those first that are least active on the pictures, as long as no more than 4 % of these lose their answer.
* fine-tune: all weights and biases by SGD on the pictures, 100 epochs of one batch, momentum 0.9, shifted by up to two
  pixels; at two rates, since nothing that a defender sees says which is right. fine-pruning: this after that. Both need
  torch and a network of the operators in OPERATORS.
* ours: `sanitize` by each method, and by the published stages; of a repair that failed, what --keep-partial writes, and
  the status says so.

RESULTS gets peers.jsonl; finished lines are not computed again.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_shapprune.commands.output import Output
from onnx_shapprune.commands.repair import sanitize
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.linear import find_linears
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Device, Session
from onnx_shapprune.settings import RECIPES, InputOptions, RunOptions
from tests.benchmarks import lines
from tests.benchmarks.detection import MEASURED, pictures
from tests.benchmarks.measure import Entry, Scorer, entries
from tests.benchmarks.quality import Known

Off = Mapping[str, list[int]]
DEVIATIONS = 3.0  # u of CLP, as published for CIFAR-10
MAY_LOSE = 0.04  # of the pictures, in Fine-Pruning
EPOCHS, MOMENTUM, SHIFT = 100, 0.9, 2
TUNED = {"fine-tune, 0.01": 0.01, "fine-tune, 0.001": 0.001, "fine-pruning, 0.01": 0.01, "fine-pruning, 0.001": 0.001}


def lipschitz(net: Known) -> Off:
    """Channels that CLP switches off."""
    opened = net.opened
    values = {t.name: numpy_helper.to_array(t) for t in opened.subject.prepared.model.graph.initializer}
    nodes = {n.output[0]: n for n in opened.subject.prepared.model.graph.node}
    units = {layer.name for layer in opened.units.layers}
    off = {}
    for linear in find_linears(opened.file.loaded, opened.interface.output, opened.subject.prepared.model)[0]:
        node = nodes[linear.made]
        if node.op_type != "Conv" or linear.name not in units:
            continue
        weight = values[node.input[1]].astype(np.float64)
        largest = np.linalg.norm(weight.reshape(*weight.shape[:2], -1), ord=2, axis=(1, 2))
        off[linear.name] = np.flatnonzero(largest > largest.mean() + DEVIATIONS * largest.std()).tolist()
    return off


def dormant(net: Known) -> Off:
    """Channels that Fine-Pruning's first half switches off."""
    opened, prepared = net.opened, net.opened.subject.prepared
    layer = [each for each in opened.units.layers if each.op == "Conv"][-1]
    session = Session(expose(prepared.model, [layer.tensor]), Device(threads=1))
    x = to_input(net.shown.pictures, opened.subject.preprocessing)
    (value,) = session.run({prepared.input: x}, [layer.tensor])
    active = np.maximum(np.moveaxis(value, layer.axis, 1), 0).reshape(len(x), layer.channels, -1).mean(axis=(0, 2))
    order = np.argsort(active, kind="stable").tolist()
    kept = 0
    for count in range(1, layer.channels):
        file = bake(opened.file.loaded, opened.units.layers, {layer.name: order[:count]})
        right = logits_of(file, net).argmax(1) == net.shown.labels
        if net.shown.right.mean() - right.mean() > MAY_LOSE:
            break
        kept = count
    return {layer.name: order[:kept]}


def logits_of(file: onnx.ModelProto, net: Known) -> np.ndarray:
    """Logits of the few pictures by an edited file, float32 [pictures, classes]."""
    opened = net.opened
    session = Session(file, Device(threads=1))
    x = to_input(net.shown.pictures, opened.subject.preprocessing)
    (scores,) = session.run({opened.interface.input: x}, [opened.interface.output])
    return np.asarray(scores.reshape(len(x), -1))


def fine_tuned(net: Known, model: onnx.ModelProto, rate: float) -> onnx.ModelProto:
    """A copy of a network whose weights went on learning from the few pictures. ValueError for an operator that is not known
    here, or is computed otherwise.
    """
    import torch  # only this method needs it, and the package never does

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    held = {t.name: torch.tensor(numpy_helper.to_array(t).copy()) for t in copy.graph.initializer}
    learnt = {n: v.requires_grad_() for n, v in held.items() if v.is_floating_point()}
    x = torch.tensor(to_input(net.shown.pictures, net.opened.subject.preprocessing))
    y, name = torch.tensor(net.shown.labels), net.opened.interface.input
    with torch.no_grad():
        apart = forward(copy.graph, {**held, name: x}).numpy() - logits_of(model, net)
    if np.abs(apart).max() > 1e-3:
        raise ValueError("torch computes the network otherwise")
    optimiser = torch.optim.SGD(learnt.values(), lr=rate, momentum=MOMENTUM)
    rng = np.random.default_rng(0)
    torch.set_num_threads(1)
    for _ in range(EPOCHS):
        down, right = rng.integers(-SHIFT, SHIFT + 1, 2).tolist()
        logits = forward(copy.graph, {**held, name: torch.roll(x, (down, right), (2, 3))})
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits, y).backward()
        optimiser.step()
    for tensor in copy.graph.initializer:
        if tensor.name in learnt:
            tensor.CopyFrom(numpy_helper.from_array(learnt[tensor.name].detach().numpy(), tensor.name))
    return copy


def forward(graph, values):
    """Output of a graph by torch. values: tensors by name, of the input and the constants."""
    for node in graph.node:
        if node.op_type not in OPERATORS:
            raise ValueError(f"fine-tuning knows no operator {node.op_type}")
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        values[node.output[0]] = OPERATORS[node.op_type](given, *(values[n] for n in node.input))
    return values[graph.output[0].name]


def convolved(given, x, weight, bias=None):
    import torch

    top, left, bottom, right = given.get("pads", [0, 0, 0, 0])
    x = torch.nn.functional.pad(x, (left, right, top, bottom))
    stride, dilation, group = given.get("strides", 1), given.get("dilations", 1), given.get("group", 1)
    return torch.nn.functional.conv2d(x, weight, bias, stride, 0, dilation, group)


def pooled(given, x):
    import torch

    return torch.nn.functional.max_pool2d(x, given["kernel_shape"], given.get("strides", 1), given.get("pads", [0])[0])


def multiplied(given, x, weight, bias):
    return x @ (weight.T if given.get("transB") else weight) + bias


OPERATORS: dict[str, Callable] = {
    "Conv": convolved,
    "MaxPool": pooled,
    "Gemm": multiplied,
    "Relu": lambda _, x: x.relu(),
    "Add": lambda _, x, y: x + y,
    "GlobalAveragePool": lambda _, x: x.mean((2, 3), keepdim=True),
    "Flatten": lambda _, x: x.flatten(1),
}  # as exporters write them; only Conv, MaxPool and Gemm have attributes that matter


def ours(net: Known, entry: Entry, zoo: Path, run: RunOptions) -> tuple[bytes | None, str]:
    """The file that `sanitize` writes with these settings, and the status of the repair."""
    with tempfile.TemporaryDirectory() as folder:
        few, out = Path(folder) / "few.npz", Path(folder) / "out.onnx"
        np.savez(few, x=net.shown.pictures.astype(np.uint8), y=net.shown.labels)
        output = Output(out, keep_partial=True)
        record = sanitize(zoo / entry.folder / entry.file, few, output=output, inputs=options(entry), run=run)
        off = f", {len(record.units.off)} units off" if record.units.off else ""
        return out.read_bytes() if out.exists() else None, f"{record.repair.status.replace('_', ' ')}{off}"


def options(entry: Entry) -> InputOptions:
    """How pictures become the input of a network."""
    mean, std = (v if isinstance(v, tuple) else (v,) for v in (entry.mean, entry.std))
    return InputOptions(input_range=(0, 255 / entry.scale), mean=mean, std=std, layout=entry.layout)


OURS = {f"ours: {name}": RunOptions(threads=1, device="cpu", method=name) for name in ("prune", "realign", "auto")} | {
    "ours: --recipe shappruning": RunOptions(threads=1, device="cpu", recipe="shappruning", **RECIPES["shappruning"])
}
METHODS = ("none", "CLP", "prune dormant", *TUNED, *OURS)


def defended(method: str, net: Known, entry: Entry, zoo: Path) -> tuple[bytes | None, str]:
    """A network after one defence, None where there is none, and what is to be said of it."""
    original, layers = net.opened.file.loaded, net.opened.units.layers
    if method == "none":
        return (zoo / entry.folder / entry.file).read_bytes(), ""
    if method in OURS:
        return ours(net, entry, zoo, OURS[method])
    if method.startswith("fine-tune"):
        return fine_tuned(net, original, TUNED[method]).SerializeToString(), f"{EPOCHS} steps"
    off = lipschitz(net) if method == "CLP" else dormant(net)
    made, said = bake(original, layers, off), f"{sum(map(len, off.values()))} units off"
    return (fine_tuned(net, made, TUNED[method]) if method in TUNED else made).SerializeToString(), said


def rows(entry: Entry, o: argparse.Namespace, done: set[tuple[str, str]]) -> Iterator[dict[str, object]]:
    """What is missing for one network."""
    wanted = [m for m in o.methods if (entry.file, m) not in done]
    if not wanted:
        return
    net = Known(entry, o.zoo, o.data)
    _, _, x_test, y_test = pictures(o.data / f"{entry.data}.npz")
    scorer = Scorer(entry, o.zoo, x_test[:MEASURED], y_test[:MEASURED], threads=1)
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401  (which takes seconds that belong to no defence)
    for method in wanted:
        began = time.process_time()
        try:
            file, said = defended(method, net, entry, o.zoo)
        except ValueError as reason:
            file, said = None, str(reason)
        seconds = time.process_time() - began
        rates = None if file is None else scorer.rates(file).model_dump()
        yield {"file": entry.file, "method": method, "seconds": seconds, "said": said, "rates": rates}


def summary(found: list[dict]) -> str:
    """A table: rates in %."""
    lines = ["| network | defence | ACC | true ASR | R-Acc | s | |", "|---|---|---|---|---|---|---|"]
    for file in dict.fromkeys(r["file"] for r in found):
        mine = {r["method"]: r for r in found if r["file"] == file}
        for row in (mine[m] for m in METHODS if m in mine):
            r = row["rates"]
            cells = [f"{100 * r[k]:.1f}" for k in ("acc", "asr", "racc")] if r else ["-"] * 3
            name = file.removesuffix(".onnx")
            lines.append(f"| {name} | {row['method']} | {' | '.join(cells)} | {row['seconds']:.1f} | {row['said']} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, metavar="NAME")
    parser.add_argument("--summary", action="store_true")
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    results = o.out / "peers.jsonl"
    found = lines.read(results)
    done = {(r["file"], r["method"]) for r in found}
    for entry in [] if o.summary else entries(o.zoo):
        if entry.kind == "all-to-one" and any(text in entry.file for text in o.only):
            lines.keep(rows(entry, o, done), results, found)
    print(summary(found))


if __name__ == "__main__":
    main()
