"""What must hold for every model and any choice of units, as functions that survey and tests share."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.engine import gradients
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.mask import insert_masks, mask_name, mask_shape
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.stored import written_out
from onnx_shapprune.graph.units import Units
from onnx_shapprune.runtime.session import Device, Session

DEVICE = Device(threads=1)
STEPS = (3e-2, 1e-2, 3e-3, 1e-3)
NOISE = 1e-5  # of the loss; a smaller change is float32 rounding
Floats = NDArray[np.float32]
Off = Mapping[str, list[int]]


def random_units(units: Units, rng: np.random.Generator, share: float = 0.125) -> dict[str, list[int]]:
    """About `share` of the channels of every layer, at least one of each."""
    return {
        layer.name: sorted(
            rng.choice(layer.channels, max(1, round(share * layer.channels)), replace=False).tolist()
        )
        for layer in units.layers
    }  # fmt: skip


def masked_logits(prepared: Prepared, units: Units, off: Off, x: Floats) -> Floats:
    """Logits of the working copy with the mask of every unit in `off` at 0; x has one row where the batch is fixed."""
    feeds = {prepared.input: x}
    for i, layer in enumerate(units.layers):
        row = np.ones(layer.channels, np.float32)
        row[list(off.get(layer.name, []))] = 0
        feeds[mask_name(i)] = row.reshape(1, *mask_shape(layer, prepared.infos))
    model = insert_masks(prepared.model, dict(enumerate(units.layers)), prepared.infos)
    return np.asarray(Session(model, DEVICE).run(feeds)[0])


def logits(prepared: Prepared, x: Floats) -> Floats:
    return np.asarray(Session(prepared.model, DEVICE).run({prepared.input: x})[0])


def unplanned(before: onnx.ModelProto, after: onnx.ModelProto, units: Units, off: Off) -> list[str]:
    """What differs between a file and its baked copy besides the slices of the channels `off`, in words.

    A constant that others read too may have been copied for the planned layer, and only its nodes may read the copy.
    """
    planned: dict[str, list[tuple[int, int, int, int]]] = {}
    for layer in units.layers:
        for p in layer.parameters:
            planned.setdefault(p.name, []).extend(
                (c, p.axis, p.groups, layer.channels) for c in layer.zeroed(off[layer.name])
            )
    old, rejoined = edit.constants(before.graph), edit.copy_of(after)
    made = edit.producers(before.graph)
    pairs = [(name, name) for name in planned if name in old]
    old.update((name, written_out(before.graph, name)) for name in planned if name not in old)
    readers = {name for layer in units.layers for name in layer.nodes}
    for node, was in zip(rejoined.graph.node, before.graph.node, strict=True):
        for i, (now, then) in enumerate(zip(node.input, was.input, strict=True)):
            stored = edit.stored_name(old, made, then) if now != then and now not in old else None
            if stored in planned and node.output[0] in readers:
                pairs.append((stored, now))
                node.input[i] = then
    new = edit.constants(after.graph)
    copies = {now for then, now in pairs if now != then}
    for values in (rejoined.graph.initializer, rejoined.graph.input):
        for position in reversed(range(len(values))):
            if values[position].name in copies:
                del values[position]
    plain = edit.copy_of(before)
    for model in (plain, rejoined):
        for name, tensor in edit.constants(model.graph).items():
            if name in planned:
                tensor.CopyFrom(onnx.TensorProto(name=tensor.name))
    found = [] if plain == rejoined else ["something besides the planned constants differs"]
    for then, now in pairs:
        same = old[then].dims == new[now].dims and old[then].data_type == new[now].data_type
        if not same or _rest(old[then], planned[then]) != _rest(new[now], planned[then]):
            found.append(f"{now} differs outside the planned channels")
    return found


def _rest(tensor: onnx.TensorProto, slices: list[tuple[int, int, int, int]]) -> bytes:
    array = edit.array_of(tensor).copy()
    for channel, axis, groups, total in slices:
        if groups:
            width, rows = total // groups, array.shape[0] // groups
            group = channel // width
            array[group * rows : (group + 1) * rows, channel % width] = 0
        else:
            array[(slice(None),) * axis + (channel,)] = 0
    return array.tobytes()


def gradient_error(prepared: Prepared, x: Floats, rng: np.random.Generator, directions: int = 3) -> float:
    """Largest relative error of the tool's derivative against central differences, of a random sum of the logits.

    Directions are halves of the gradient's signs: elsewhere the change drowns in float32 noise. The best of a few step
    sizes counts. NaN where the picture changes next to nothing. Raises UnsupportedOpError.
    """
    b = Builder(prepared.model, prepared.infos)
    weights = rng.normal(size=(1, prepared.classes)).astype(np.float32)
    shape = b.shape(prepared.logits)
    seed = b("Mul", b.ones_like(prepared.logits), b.const(weights))
    grad = gradients(b, prepared.logits, [prepared.input], seed=seed)[prepared.input]
    del b.graph.output[:]
    b.output(prepared.logits, shape)
    b.output(grad, b.shape(prepared.input))
    session = Session(b.model(), DEVICE)
    g = session.run({prepared.input: x}, [grad])[0].astype(np.float64)

    def loss(point: Floats) -> float:
        (z,) = session.run({prepared.input: point}, [prepared.logits])
        return float((z.astype(np.float64) * weights).sum())

    errors = []
    for _ in range(directions):
        d = (np.sign(g) * (rng.random(g.shape) < 0.5)).astype(np.float32)
        expected = float((g * d).sum())
        ends = [(h, loss(x + h * d), loss(x - h * d)) for h in STEPS]
        found = [(up - down) / (2 * h) for h, up, down in ends if abs(up - down) > NOISE * max(abs(up), abs(down))]
        if expected and found:
            errors.append(min(abs(slope - expected) / abs(expected) for slope in found))
    return max(errors, default=float("nan"))
