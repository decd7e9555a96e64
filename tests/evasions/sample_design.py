"""The designs that edits are tried on: the bundled sample, and a hand-made network that is known on paper."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import planted
from edits import Design

from onnx_shapprune.case.open import Case, open_case
from onnx_shapprune.sample import sample_path
from onnx_shapprune.settings import InputOptions, RunOptions


def sample_design() -> Design:
    """The Fashion-MNIST networks; trigger and target as in trigger.npz."""
    trigger = np.load(sample_path("trigger.npz"))
    mask, pattern = (trigger[name].transpose(2, 0, 1).astype(float) for name in ("mask", "pattern"))
    backdoored, clean = (onnx.load(sample_path(f"{name}.onnx")) for name in ("backdoored", "clean"))
    return Design(backdoored, clean, mask, pattern / 255, int(trigger["target"]))


def opened(folder: Path, model: onnx.ModelProto) -> Case:
    """A model in front of the sample's pictures."""
    onnx.save(model, folder / "model.onnx")
    inputs = InputOptions(output="scores" if len(model.graph.output) > 1 else None)
    return open_case(folder / "model.onnx", sample_path("pictures"), inputs, RunOptions(threads=1, device="cpu"))


def answers(model: onnx.ModelProto, design: Design) -> list[list[int]]:
    """To test pictures of the sample, as they are and with the trigger."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    clean = np.load(sample_path("test.npz"))["x"][:60].transpose(0, 3, 1, 2) / np.float32(255)
    stamped = clean * (1 - design.mask) + design.mask * design.pattern
    name = model.graph.input[0].name
    return [session.run(None, {name: x.astype(np.float32)})[0].argmax(1).tolist() for x in (clean, stamped)]


def rows_design() -> Design:
    """The network of bright rows with its white corner, 12 x 12 pixels, six classes."""
    rows = planted.rows_net()
    mask, pattern = planted.corner_trigger()
    moved = (m.transpose(2, 0, 1).astype(float) for m in (mask, pattern / 255))
    return Design(rows, planted.without_backdoor(rows), *moved, 5)
