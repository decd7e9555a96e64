"""The designs that edits are tried on: the bundled sample, and a hand-made network that is known on paper."""

import numpy as np
import onnx
import planted
from edits import Design

from onnx_shapprune.sample import sample_path


def sample_design() -> Design:
    """The Fashion-MNIST networks; trigger and target as in trigger.npz."""
    trigger = np.load(sample_path("trigger.npz"))
    mask, pattern = (trigger[name].transpose(2, 0, 1).astype(float) for name in ("mask", "pattern"))
    backdoored, clean = (onnx.load(sample_path(f"{name}.onnx")) for name in ("backdoored", "clean"))
    return Design(backdoored, clean, mask, pattern / 255, int(trigger["target"]))


def rows_design() -> Design:
    """The network of bright rows with its white corner, 12 x 12 pixels, six classes."""
    rows = planted.rows_net()
    mask, pattern = planted.corner_trigger()
    moved = (m.transpose(2, 0, 1).astype(float) for m in (mask, pattern / 255))
    return Design(rows, planted.without_backdoor(rows), *moved, 5)
