"""Follow the features of a linear layer to the nodes that read them: how attention splits them into heads.

Exporters write heads as Reshape, Transpose, Split, Gather and Squeeze behind the projection, often with sizes that the
graph computes. Nothing runs here: a Reshape is understood where its last sizes are stored and make up the layer's
features, or where shape inference says that it leaves the axes before them as they are.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.sizes import INTEGERS, Size

UNCHANGED = ("Identity", "Dropout", "Cast")
MOVING = (*UNCHANGED, "Reshape", "Transpose", "Split", "Slice", "Gather", "Squeeze")
SMALL = 1024  # elements; larger constants are no sizes
Nodes = Mapping[str, onnx.NodeProto]


@dataclass(frozen=True, slots=True)
class View:
    """A tensor that holds features of a layer: columns [...] are their numbers, whose axis i is the tensor's axis
    places[i], counted from the end. rank: of the tensor, where known.
    """

    tensor: str
    columns: NDArray[np.int64]
    places: tuple[int, ...]
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Shapes:
    """What is known of sizes: of stored constants, and of every tensor by shape inference."""

    constants: Mapping[str, onnx.TensorProto]
    made: Nodes
    inferred: Mapping[str, tuple[Size, ...]]

    def stored(self, name: str) -> str | None:
        return edit.stored_name(self.constants, self.made, name)

    def values(self, name: str) -> list[int] | None:
        """Integers that the file stores."""
        found = self.constants.get(self.stored(name) or "")
        if found is None or found.data_type not in INTEGERS or math.prod(found.dims) > SMALL:
            return None
        return [int(v) for v in edit.array_of(found).reshape(-1)]


def origin(name: str, made: Nodes) -> Iterator[str]:
    """A tensor, and those that nodes only moved values of to make it."""
    yield name
    while (node := made.get(name)) is not None and node.op_type in MOVING:
        name = node.input[0]
        yield name


def readings(
    tensor: str, width: int, used: Mapping[str, Sequence[onnx.NodeProto]], shapes: Shapes
) -> Iterator[tuple[onnx.NodeProto, View]]:
    """Every node that computes with some of the `width` features on the last axis of `tensor`, and what it reads.

    What cannot be followed is taken for a computation with all features that come so far.
    """
    views = [View(tensor, np.arange(width), (-1,))]
    while views:
        view = views.pop()
        for node in {id(n): n for n in used.get(view.tensor, [])}.values():
            if node.op_type == "Shape":
                continue
            behind = _behind(view, node, shapes) if node.op_type in MOVING and node.input[0] == view.tensor else None
            if behind is None:
                yield node, view
            else:
                views += behind


def _behind(view: View, node: onnx.NodeProto, shapes: Shapes) -> list[View] | None:
    """What a node that moves values makes of a view; None where that cannot be told."""
    given = edit.attributes(node)
    whole = replace(view, tensor=node.output[0])
    if node.op_type in UNCHANGED:
        return [whole]
    if node.op_type == "Transpose":
        perm = given.get("perm")
        if not isinstance(perm, list) or sorted(perm) != list(range(len(perm))) or len(perm) + min(view.places) < 0:
            return None
        rank = len(perm)
        return [replace(whole, places=tuple(perm.index(p + rank) - rank for p in view.places), rank=rank)]
    if node.op_type == "Reshape":
        sizes = _factors(view, node, shapes)
        if sizes is None:
            return None
        places = tuple(range(-len(sizes), 0))
        return [View(whole.tensor, view.columns.reshape(sizes), places)]
    return _taken(view, node, shapes)


def _taken(view: View, node: onnx.NodeProto, shapes: Shapes) -> list[View] | None:
    """What a Split, Slice, Gather or Squeeze along one axis of features makes of a view."""
    if node.op_type in ("Split", "Gather"):
        axis = edit.attributes(node).get("axis", 0)
    else:
        axes = _given(node, "axes", 3 if node.op_type == "Slice" else 1, shapes) or []
        axis = axes[0] if len(axes) == 1 else None
    rank = view.rank or len(shapes.inferred.get(view.tensor, ())) or None
    if not isinstance(axis, int) or (axis >= 0 and rank is None):
        return None
    place = axis - (rank or 0) if axis >= 0 else axis
    if place not in view.places:
        return None
    at = view.places.index(place)
    size = view.columns.shape[at]
    if node.op_type == "Split":
        count = len(node.output)
        each = -(-size // count)
        parts = _given(node, "split", 1, shapes) or [each] * (count - 1) + [size - each * (count - 1)]
        if sum(parts) != size or min(parts) < 0 or len(parts) != count:
            return None
        split = np.split(view.columns, np.cumsum(parts)[:-1], axis=at)
        return [View(o, c, view.places, view.rank) for o, c in zip(node.output, split, strict=True)]
    if node.op_type == "Slice":
        starts, ends = (_given(node, name, i, shapes) for i, name in ((1, "starts"), (2, "ends")))
        steps = _given(node, "steps", 4, shapes) or [1]
        if not starts or not ends or steps != [1]:
            return None
        columns = view.columns.take(range(size)[starts[0] : ends[0]], axis=at)
        return [View(node.output[0], columns, view.places, view.rank)]
    index = [0] if node.op_type == "Squeeze" else shapes.values(node.input[1])
    if index is None or len(index) != 1 or not -size <= index[0] < size or (node.op_type == "Squeeze" and size > 1):
        return None
    if node.op_type == "Gather" and shapes.constants[str(shapes.stored(node.input[1]))].dims:
        return [View(node.output[0], view.columns.take(index, axis=at), view.places, view.rank)]
    places = tuple(p + (p < place) for p in view.places if p != place)
    return [View(node.output[0], np.asarray(view.columns.take(index[0], axis=at)), places, rank and rank - 1)]


def _given(node: onnx.NodeProto, name: str, place: int, shapes: Shapes) -> list[int] | None:
    """Integers that newer operators read as input `place` and older ones have as an attribute."""
    found = edit.attributes(node).get(name)
    if isinstance(found, list):
        return found
    return shapes.values(node.input[place]) if len(node.input) > place and node.input[place] else None


def _factors(view: View, node: onnx.NodeProto, shapes: Shapes) -> list[int] | None:
    """Sizes that a Reshape splits the features into, while they are one last axis."""
    if view.places != (-1,) or len(node.input) < 2:
        return None
    width = view.columns.size
    target = _target(node, shapes)
    product = 1
    for count, size in enumerate(reversed(target), 1):
        if not isinstance(size, int) or size < 1:
            break
        product *= size
        if product == width:
            return [int(s) for s in target[-count:] if isinstance(s, int)]
    before = shapes.inferred.get(view.tensor)
    if not before or None in before[:-1] or target[: len(before) - 1] != before[:-1]:
        return None
    last = target[len(before) - 1 :]
    known = math.prod(s for s in last if isinstance(s, int) and s > 0)
    if sum(not isinstance(s, int) or s < 1 for s in last) != 1 or width % known:
        return None
    return [s if isinstance(s, int) and s > 0 else width // known for s in last]


def _target(node: onnx.NodeProto, shapes: Shapes) -> tuple[Size, ...]:
    """What a Reshape makes: the last sizes, before the first that is not known; those below 1 are the operator's -1, 0."""
    if found := shapes.inferred.get(node.output[0]):
        return found
    if stored := shapes.values(node.input[1]):
        return tuple(stored)
    made = shapes.made.get(node.input[1])
    if made is None or made.op_type != "Concat":
        return ()
    sizes: list[Size] = []
    for name in made.input:
        sizes += shapes.values(name) or [None]
    return tuple(sizes)
