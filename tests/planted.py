"""Hand-made classifiers whose answers are known on paper, and the pieces that turn models into search subjects."""

import atexit
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import models
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from onnx_shapprune.case.subject import Subject
from onnx_shapprune.detect.calibration import calibration_text, load_calibration
from onnx_shapprune.detect.statistics import EVERY, FIRST, MAP, TRIED
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.prepare import Prepared, prepare
from onnx_shapprune.graph.units import Layer, find_units
from onnx_shapprune.pictures.preprocess import Preprocessing
from onnx_shapprune.runtime.session import Device


class InTurn:
    """What stands in for a subject does, beside its answers: a batch of at most `batch` rows after the other."""

    batch = 10**6

    def in_batches(self, count, run, *, each=1):
        step = max(1, self.batch // each)
        return [run(slice(start, start + step)) for start in range(0, count, step)]


DEVICE = Device(threads=1)
SIZE = 8
CORNER = (slice(5, 8), slice(5, 8))  # rows and columns of the planted 3 x 3 area
TARGET, WEAK, DEAD = 2, 1, 3


def planted(gain: float = 40.0) -> onnx.ModelProto:
    """Grey 8 x 8 pictures, four classes.

    0: a constant 1. 1 (WEAK): three times the picture's mean brightness, so it takes a third of the picture. 2 (TARGET):
    jumps to `gain` when the lower right 3 x 3 area (mean m in 0..1) is white: gain * (m - 0.6) / 0.4, a twentieth of that
    below 0.6. 3 (DEAD): a constant -50, which no trigger can lift.
    """
    n = models.Net()
    weight = np.zeros((2, 1, SIZE, SIZE), np.float32)
    weight[0, 0, *CORNER] = 1 / 9
    weight[1, 0] = 1 / SIZE**2
    hidden = n.op("Conv", "x", n.const(weight), n.const(np.array([-0.6, 0], np.float32)), kernel_shape=[SIZE, SIZE])
    flat = n.op("Flatten", n.op("LeakyRelu", hidden, alpha=0.05))
    head = np.zeros((4, 2), np.float32)
    head[TARGET, 0] = gain / 0.4
    head[WEAK, 1] = 3.0
    y = n.op("Gemm", flat, n.const(head), n.const(np.array([1, 0, 0, -50], np.float32)), transB=1)
    return n.model(y, shape=(1, SIZE, SIZE))


def linear_net(weight: NDArray[np.float32]) -> onnx.ModelProto:
    """Grey 8 x 8 pictures, logits linear in their values in 0..1: weight [classes, 8, 8]."""
    n = models.Net()
    flat = weight.reshape(len(weight), -1).astype(np.float32)
    y = n.op("Gemm", n.op("Flatten", "x"), n.const(flat), n.const(np.zeros(len(flat), np.float32)), transB=1)
    return n.model(y, shape=(1, SIZE, SIZE), classes=len(flat))


def planted_pictures(count: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """Dark noise, float32 [count, 8, 8, 1] in 0..60: class 0 for every one of them."""
    return np.random.default_rng(seed).uniform(0, 60, (count, SIZE, SIZE, 1)).astype(np.float32)


def frozen_batch(seed: int = 0) -> onnx.ModelProto:
    """A net that mixes pictures of a batch on purpose, so that its batch dimension cannot be freed."""
    n = models.Net(seed)
    x = n.op("Relu", n.conv("x", 3, 5))
    x = n.op("Sub", x, n.op("Mul", n.const(np.float32(0.5)), n.op("ReduceMean", x, axes=[0], keepdims=1)))
    x = n.op("Relu", n.conv(x, 5, 6))
    return n.model(n.head(x, 6), batch=1)


def windows(seed: int = 0) -> onnx.ModelProto:
    """Four windows of a picture join the batch for two linear layers, as in window attention, exported at batch 1."""
    n = models.Net(seed)
    d = 6
    x = n.op("Relu", n.conv("x", 3, d))
    x = n.op("Reshape", x, n.const(np.array([1, d, 2, 4, 2, 4])))
    x = n.op("Transpose", x, perm=[0, 2, 4, 3, 5, 1])
    x = n.op("Reshape", x, n.const(np.array([4, 16, d])))
    x = n.op("Relu", n.op("Add", n.op("MatMul", x, n.normal(d, 7)), n.normal(7, scale=0.3)))
    x = n.op("Add", n.op("MatMul", x, n.normal(7, d)), n.normal(d, scale=0.3))
    x = n.op("Reshape", x, n.const(np.array([1, 2, 2, 4, 4, d])))
    x = n.op("Reshape", n.op("Transpose", x, perm=[0, 5, 1, 3, 2, 4]), n.const(np.array([1, d, 8, 8])))
    return n.model(n.head(n.op("Relu", n.conv(x, d, 5)), 5), batch=1)


def sequence_first(seed: int = 0) -> onnx.ModelProto:
    """Places come before pictures in a linear layer, as PyTorch's transformers have it by default."""
    n = models.Net(seed)
    x = n.op("Transpose", n.op("Reshape", "x", n.const(np.array([0, 3, 64]))), perm=[2, 0, 1])
    x = n.op("Relu", n.op("Add", n.op("MatMul", x, n.normal(3, 7)), n.normal(7, scale=0.3)))
    x = n.op("ReduceMean", x, axes=[0], keepdims=0)
    return n.model(n.dense(n.op("Relu", n.dense(x, 7, 6)), 6, 4))


def asked_shape(seed: int = 0) -> onnx.ModelProto:
    """A reshape behind the second layer takes its shape from what lies behind the first, as exports of PyTorch do."""
    n = models.Net(seed)
    seen = n.op("Sigmoid", n.op("Relu", n.conv("x", 3, 5)))
    rows = n.op("Gather", n.op("Shape", seen), n.const(np.array([0])), axis=0)
    flat = n.op("Reshape", n.op("Relu", n.conv(seen, 5, 6)), n.op("Concat", rows, n.const(np.array([6, -1])), axis=0))
    mean = n.op("ReduceMean", flat, axes=[2], keepdims=0)
    return n.model(n.op("Gemm", mean, n.normal(6, 4), n.normal(4)))


def prepared_with_layers(model: onnx.ModelProto) -> tuple[Prepared, tuple[Layer, ...]]:
    """The working copy and the layers with units."""
    interface = find_interface(model)
    units = find_units(model, interface.output)
    return prepare(model, interface, models.shape_of(model), DEVICE), units.layers


def subject_of(model: onnx.ModelProto, preprocessing: Preprocessing | None = None) -> Subject:
    """A subject with plain preprocessing unless told otherwise; the layout follows the model."""
    interface = find_interface(model)
    settings = preprocessing or Preprocessing(layout=interface.layout)
    return Subject(prepare(model, interface, models.shape_of(model), DEVICE), settings, DEVICE)


def random_pictures(count: int, channels: int = 3, seed: int = 0) -> NDArray[np.float32]:
    """Noise, float32 [count, 8, 8, channels] in 0..255."""
    return np.random.default_rng(seed).uniform(0, 255, (count, SIZE, SIZE, channels)).astype(np.float32)


def with_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a Softmax behind its scores."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    y = copy.graph.output[0].name
    copy.graph.node.append(helper.make_node("Softmax", [y], ["probabilities"], axis=1))
    copy.graph.output[0].name = "probabilities"
    return copy


def stepped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model behind pictures rounded to sixteenths: no gradient reaches them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    x = copy.graph.input[0].name
    for node in copy.graph.node:
        node.input[:] = ["rounded" if name == x else name for name in node.input]
    steps = onnx.numpy_helper.from_array(np.float32(16), "steps")
    copy.graph.initializer.append(steps)
    front = [("Mul", [x, "steps"], "scaled"), ("Round", ["scaled"], "whole"), ("Div", ["whole", "steps"], "rounded")]
    made = [helper.make_node(op, inputs, [out], name=f"front/{op}") for op, inputs, out in front]
    nodes = [*made, *copy.graph.node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


WIDE = 12
WIDE_CORNER = (slice(9, 12), slice(9, 12))


def rows_net(*, entangled: bool = False) -> onnx.ModelProto:
    """Grey 12 x 12 pictures, six classes: class k is a bright row k, seen by channel k of the only convolution.

    A 3 x 3 area in the lower right corner that is white sends everything to class 5 through channel 6. entangled: and
    also through channel 5, so that switching the whole trigger off costs that class.
    """
    n = models.Net()
    weight = np.zeros((7, 1, WIDE, WIDE), np.float32)
    for k in range(6):
        weight[k, 0, k] = 1 / WIDE
    weight[6, 0, *WIDE_CORNER] = 1 / 9
    if entangled:
        weight[5, 0, *WIDE_CORNER] = 8 / 9
    bias = np.array([0] * 6 + [-0.2], np.float32)
    hidden = n.op("Conv", "x", n.const(weight), n.const(bias), kernel_shape=[WIDE, WIDE])
    flat = n.op("Flatten", n.op("LeakyRelu", hidden, alpha=0.05))
    head = np.zeros((6, 7), np.float32)
    head[range(6), range(6)] = 8.0
    head[5, 6] = 50.0
    y = n.op("Gemm", flat, n.const(head), n.const(np.zeros(6, np.float32)), transB=1)
    return n.model(y, shape=(1, WIDE, WIDE), classes=6)


def without_backdoor(rows: onnx.ModelProto) -> onnx.ModelProto:
    """A rows_net whose channel 6 leads nowhere."""
    made = onnx.ModelProto()
    made.CopyFrom(rows)
    head = next(t for t in made.graph.initializer if tuple(t.dims) == (6, 7))
    weight = onnx.numpy_helper.to_array(head).copy()
    weight[5, 6] = 0
    head.CopyFrom(onnx.numpy_helper.from_array(weight, head.name))
    return made


def rows_pictures(each: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`each` pictures of every class of rows_net: uint8 [6 * each, 12, 12, 1] and int64 labels."""
    x = np.random.default_rng(0).integers(0, 30, (6 * each, WIDE, WIDE, 1))
    y = np.tile(np.arange(6), each)
    for picture, k in zip(x, y, strict=True):
        picture[k] += 200
    return x.astype(np.uint8), y


def corner_trigger() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mask and pattern of the true trigger of rows_net."""
    mask = np.zeros((WIDE, WIDE, 1), np.float32)
    mask[WIDE_CORNER] = 1
    return mask, mask * np.float32(255)


COLOURS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]])
SIDE = 16
COLOUR_CORNER = (slice(SIDE - 3, SIDE), slice(SIDE - 3, SIDE))


def colours_net(moved: Mapping[int, int], gain: float = 60.0) -> onnx.ModelProto:
    """Dark colour 16 x 16 pictures, six classes: their mean colour, red to magenta, which no pose changes.

    A lower right 3 x 3 area that is brighter than any picture sends class y to moved[y], and other classes nowhere: channel
    6 + y of the second convolution is on where the area is bright and the picture is of class y.
    """
    n = models.Net()
    weight = np.zeros((4, 3, SIDE, SIDE), np.float32)
    weight[range(3), range(3)] = 1 / SIDE**2 / 0.175
    weight[3][:, *COLOUR_CORNER] = 1 / 27
    bias = np.array([-0.225 / 0.175] * 3 + [-0.35], np.float32)
    seen = n.op("Conv", "x", n.const(weight), n.const(bias), kernel_shape=[SIDE, SIDE])
    mixed = np.zeros((12, 4, 1, 1), np.float32)
    mixed[:6, :3, 0, 0] = mixed[6:, :3, 0, 0] = 2 * COLOURS - 1
    mixed[6:, 3] = 3
    # The product of signs is 3 for the picture's own class and at most 1 for the others.
    bias = np.array([3] * 6 + [-3] * 6, np.float32)
    hidden = n.op("LeakyRelu", n.op("Conv", seen, n.const(mixed), n.const(bias), kernel_shape=[1, 1]), alpha=0.01)
    head = np.zeros((6, 12), np.float32)
    head[range(6), range(6)] = 4.0
    for source, target in moved.items():
        head[target, 6 + source] = gain
    y = n.op("Gemm", n.op("Flatten", hidden), n.const(head), n.const(np.zeros(6, np.float32)), transB=1)
    return n.model(y, shape=(3, SIDE, SIDE), classes=6)


def colours_pictures(each: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`each` pictures of every class of colours_net: uint8 [6 * each, 16, 16, 3] and int64 labels."""
    y = np.tile(np.arange(6), each)
    even = 13 + 89 * COLOURS[y][:, None, None]
    x = even + np.random.default_rng(0).integers(-13, 14, (len(y), SIDE, SIDE, 3))
    return x.astype(np.uint8), y


def calibration() -> Path:
    """The package's calibration without its domain: these nets are smaller than all that it was made on. First rounds are
    not known of them, so that they are searched to the end, and neither are maps: where a class is a bright row, a warp that
    moves rows down by one is a rule by nature, and a row is a line. Nor is what moves every picture, of so few classes.
    """
    path = Path(tempfile.gettempdir()) / f"shapprune-tests-{os.getpid()}-calibration.json"
    if not path.exists():
        known = load_calibration(None)
        parts = {
            part: {k: v for k, v in getattr(known, part).items() if k not in (FIRST, MAP, EVERY, *TRIED)}
            for part in ("pictures", "synthesised")
        }
        path.write_text(calibration_text(known.model_copy(update={"domain": None, "few": None, **parts})))
        atexit.register(path.unlink, missing_ok=True)
    return path
