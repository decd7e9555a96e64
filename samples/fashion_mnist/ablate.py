"""How concentrated is the sample's backdoor? Switch channels off one at a time, then greedily, with the TRUE trigger.

    python ablate.py [--model PATH] [--steps 8]

This is an oracle: it looks at the attacker's trigger and at test labels, which no user has. It says how hard the sample
is and is no part of the method. A channel is switched off by zeroing its filter and its bias in the Conv node.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_shapprune.runtime.session import Device, Session
from onnx_shapprune.sample import sample_path

Unit = tuple[str, int]


def conv_units(model: onnx.ModelProto) -> list[Unit]:
    """(Conv node name, output channel) of every convolution."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [(node.name, c) for node in convolutions for c in range(shapes[node.input[1]][0])]


def without(model: onnx.ModelProto, units: Sequence[Unit]) -> onnx.ModelProto:
    """A copy of the model in which the filters and biases of `units` are zero."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    parameters = {node.name: node.input[1:] for node in copy.graph.node if node.op_type == "Conv"}
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node, channel in units:
        for name in parameters[node]:
            values = numpy_helper.to_array(tensors[name]).copy()
            values[channel] = 0
            tensors[name].CopyFrom(numpy_helper.from_array(values, name))
    return copy


def logits(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return Session(model, Device(threads=1)).run({"input": x})[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Ablate channels of the backdoored sample with its true trigger.")
    parser.add_argument("--model", type=Path, default=sample_path("backdoored.onnx"))
    parser.add_argument("--steps", type=int, default=8, help="channels that the greedy search switches off")
    parser.add_argument("--cost", type=float, default=0.02, help="accuracy that the greedy search may give up")
    parser.add_argument("--search", type=int, default=300, help="pictures in the greedy search; results use all")
    asked = parser.parse_args()
    model = onnx.load(asked.model)
    with np.load(sample_path("test.npz")) as test, np.load(sample_path("trigger.npz")) as trigger:
        x, y = test["x"].astype(np.float32), test["y"]
        mask, pattern, target = trigger["mask"], trigger["pattern"], int(trigger["target"])
    clean = (x / 255).transpose(0, 3, 1, 2)
    others = y != target
    stamped = ((x * (1 - mask) + pattern * mask) / 255).transpose(0, 3, 1, 2)[others]

    def report(units: Sequence[Unit], n: int | None = None) -> tuple[float, float, float, float]:
        """ACC, ASR, R-Acc, and the mean margin of the target's logit on stamped pictures, on the first n pictures."""
        edited = without(model, units)
        answer = logits(edited, stamped[:n])
        rival = np.delete(answer, target, 1).max(1)
        acc = (logits(edited, clean[:n]).argmax(1) == y[:n]).mean()
        guess = answer.argmax(1)
        r_acc = (guess == y[others][:n]).mean()
        return float(acc), float((guess == target).mean()), float(r_acc), float((answer[:, target] - rival).mean())

    def line(label: str, values: tuple[float, float, float, float]) -> None:
        acc, asr, r_acc, margin = values
        print(f"{label:32} ACC {acc:.3f}  ASR {asr:.3f}  R-Acc {r_acc:.3f}  margin {margin:6.2f}", flush=True)

    units = conv_units(model)
    print(f"{len(units)} channels in convolutions")
    line("nothing off", report(()))
    single = {unit: report((unit,), asked.search) for unit in units}
    ranked = sorted(units, key=lambda unit: single[unit][3])
    for unit in ranked[:6]:
        line(f"{unit[0]}[{unit[1]}]", report((unit,)))
    off: list[Unit] = []
    lowest = report((), asked.search)[0] - asked.cost
    for _ in range(asked.steps):
        trials = {u: report((*off, u), asked.search) for u in ranked[:60] if u not in off}
        allowed = [u for u in trials if trials[u][0] >= lowest]
        if not allowed:
            break
        off.append(min(allowed, key=lambda u: trials[u][3]))
        line(f"greedy {len(off)}: {off[-1][0]}[{off[-1][1]}]", report(off))


if __name__ == "__main__":
    main()
