"""The same answers without what only hides them: ends that keep the order of the scores are taken off.

A verdict must not change under anything that leaves the largest score where it is. Behind a Clip, a sharp Softmax or a
factor of 1e-6 margins saturate and gradients vanish; before them stand the same classes in the same order. Roundings behind
the last layer that change nothing but the slope (obfuscated gradients, Athalye et al., ICML 2018) are left out as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.provenance.operators import LAYERS
from onnx_shapprune.runtime.probe import TensorInfo
from onnx_shapprune.runtime.session import Device, Session

RISING = frozenset(
    {
        "Softmax",
        "LogSoftmax",
        "Sigmoid",
        "HardSigmoid",
        "Tanh",
        "Softplus",
        "Softsign",
        "Elu",
        "Selu",
        "Celu",
        "LeakyRelu",
        "Relu",
        "Clip",
        "Exp",
        "Log",
        "Sqrt",
        "Erf",
        "Atan",
        "Sinh",
        "Asinh",
        "Identity",
        "Dropout",
        "Cast",
    }
)
LAYING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
POSITIVE = frozenset({"Exp", "Softmax", "Sigmoid", "HardSigmoid", "Softplus", "Relu", "Sqrt", "Pow", "Abs"})
NORMS = frozenset({"ReduceL1", "ReduceL2", "ReduceSumSquare"})
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
STEPS = frozenset({"Round", "Floor", "Ceil"})
FINE = 0.01  # of the scores' spread: a rounding that changes them by less decides nothing
MOST_ENDS = 64


@dataclass(frozen=True, slots=True)
class Reach:
    """What of a model's scores statistics are about. classes: those that something reaches; offset: added to each score, so
    that copies do not stand in the way; scale: of all scores; notes: what was left out, in words.
    """

    classes: tuple[int, ...]
    offset: tuple[float, ...]
    scale: float
    notes: tuple[str, ...]


def canonical(prepared: Prepared, device: Device) -> Prepared:
    """The working copy in the form that searches and statistics rest on; itself where nothing is to be taken off."""
    feed = np.random.default_rng(0).random((2 if prepared.batch_free else 1, *prepared.input_shape), np.float32)
    return without_ends(without_fine_steps(without_ends(prepared), feed, device))


def without_ends(prepared: Prepared) -> Prepared:
    """The working copy up to the last tensor that has its scores in the same order, [N, classes]."""
    made = edit.producers(prepared.model.graph)
    here, kept, taken = prepared.logits, prepared.logits, list[str]()
    for _ in range(MOST_ENDS):
        node = made.get(here)
        before = None if node is None else _before(node, prepared, made)
        if node is None or before is None:
            break
        here = before
        if node.op_type not in LAYING:
            kept = here
            taken += [] if node.op_type in ("Identity", "Dropout", "Cast") else [node.op_type]
    if kept == prepared.logits:
        return prepared
    model, infos = edit.copy_of(prepared.model), dict(prepared.infos)
    shape = infos[kept].shape
    if len(shape) != 2:
        flat = f"{kept}__laid_flat"
        model.graph.node.append(helper.make_node("Flatten", [kept], [flat], axis=1))
        infos[flat] = TensorInfo((shape[0], prepared.classes), infos[kept].dtype)
        kept = flat
    edit.set_output(model.graph, kept)
    edit.prune_dead(model.graph)
    return replace(prepared, model=model, infos=infos, logits=kept, stripped=(*prepared.stripped, *taken))


def _before(node: onnx.NodeProto, prepared: Prepared, made: dict[str, onnx.NodeProto]) -> str | None:
    """The input whose scores have the order of the node's output, None where there is none."""
    name = _scores(node, prepared)
    if name is None:
        return None
    attributes = edit.attributes(node)
    if node.op_type in ("Softmax", "LogSoftmax"):
        return name if attributes.get("axis", -1) in (1, -1) and len(prepared.infos[name].shape) == 2 else None
    if node.op_type in ("HardSigmoid", "LeakyRelu"):
        return name if float(attributes.get("alpha", 0.2)) > 0 else None  # type: ignore[arg-type]
    if node.op_type == "Cast":
        return name if attributes.get("to") in FLOATS and prepared.infos[name].dtype.kind == "f" else None
    if node.op_type in RISING | LAYING:
        return name
    return name if _shifts_or_scales(node, name, prepared, made) else None


def _shifts_or_scales(node: onnx.NodeProto, name: str, prepared: Prepared, made: dict[str, onnx.NodeProto]) -> bool:
    """Whether an operator of two inputs treats all scores of a picture alike and keeps their order."""
    if len(node.input) != 2 or node.input[0] == node.input[1]:
        return False
    first = node.input[0] == name
    other = node.input[1 if first else 0]
    value = _number(other, prepared)
    if node.op_type in ("Max", "Min"):
        return value is not None
    if node.op_type == "Add" or (node.op_type == "Sub" and first):
        return value is not None or _one_per_picture(other, prepared)
    if node.op_type == "Mul" or (node.op_type == "Div" and first):
        if value is not None:
            return value > 0
        divisor = made.get(other)
        summed = divisor is not None and divisor.op_type == "ReduceSum" and _is_positive(divisor.input[0], made)
        norm = divisor is not None and (divisor.op_type in NORMS or summed)
        return node.op_type == "Div" and norm and _one_per_picture(other, prepared)
    return node.op_type == "Pow" and first and value is not None and value > 0 and _is_positive(name, made)


def _scores(node: onnx.NodeProto, prepared: Prepared) -> str | None:
    """The one input that holds a score per class for each picture."""
    stored = {t.name for t in prepared.model.graph.initializer}
    found = [
        n
        for n in node.input
        if n in prepared.infos and n not in stored and _per_picture(n, prepared) == prepared.classes
    ]
    return found[0] if len(found) == 1 else None


def _per_picture(name: str, prepared: Prepared) -> int:
    """Values of each picture, 0 where that is not said."""
    shape = prepared.infos[name].shape
    known = shape[1:] if len(shape) > 1 else (0,)
    return int(np.prod([d or 0 for d in known]))


def _one_per_picture(name: str, prepared: Prepared) -> bool:
    return name in prepared.infos and _per_picture(name, prepared) == 1


def _is_positive(name: str, made: dict[str, onnx.NodeProto]) -> bool:
    node = made.get(name)
    return node is not None and node.op_type in POSITIVE


def _number(name: str, prepared: Prepared) -> float | None:
    """The value of a constant that is the same everywhere."""
    tensor = next((t for t in prepared.model.graph.initializer if t.name == name), None)
    if tensor is None:
        return None
    array = edit.array_of(tensor)
    if not array.size or not np.issubdtype(array.dtype, np.floating) or (array != array.flat[0]).any():
        return None
    return float(array.flat[0])


def without_fine_steps(prepared: Prepared, feed: edit.Array, device: Device) -> Prepared:
    """The working copy without roundings behind its last layer, where the scores of `feed` stay as they are.

    A rounding has no slope, so that value and slope can be made to disagree: z + 2 (round(65,536 z) / 65,536 - z).
    """
    behind = _behind_the_last_layer(prepared.model.graph, prepared.logits)
    whole = [i for i in behind if _is_step(prepared.model.graph.node[i], prepared)]
    if not whole:
        return prepared
    model = edit.copy_of(prepared.model)
    for i in whole:
        node = model.graph.node[i]
        kept = list(node.input[:1])
        del node.input[:], node.attribute[:]
        node.op_type = "Identity"
        node.input.extend(kept)
    feeds = {prepared.input: feed}
    try:
        want, got = (Session(m, device).run(feeds, [prepared.logits])[0] for m in (prepared.model, model))
    except ModelError:
        return prepared
    if not np.abs(want - got).max() <= FINE * np.std(want):
        return prepared
    infos = dict(prepared.infos)
    for i in whole:
        node = model.graph.node[i]
        infos[node.output[0]] = infos[node.input[0]]
    return replace(prepared, model=model, infos=infos)


def _is_step(node: onnx.NodeProto, prepared: Prepared) -> bool:
    if node.op_type != "Cast":
        return node.op_type in STEPS
    return edit.attributes(node).get("to") not in FLOATS and prepared.infos[node.input[0]].dtype.kind == "f"


def _behind_the_last_layer(graph: onnx.GraphProto, output: str) -> Sequence[int]:
    """Places of the nodes between the scores and the layers before them."""
    place = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    todo, found = [output], set[int]()
    while todo:
        i = place.get(todo.pop())
        if i is not None and i not in found and graph.node[i].op_type not in LAYERS:
            found.add(i)
            todo += graph.node[i].input
    return sorted(found)


def rescored(prepared: Prepared, reach: Reach) -> Prepared:
    """The working copy with its scores times the reach's scale, plus its offset."""
    model, infos = edit.copy_of(prepared.model), dict(prepared.infos)
    out = f"{prepared.logits}__rescored"
    scaled = f"{out}__scaled"
    stored = {f"{out}__scale": [[reach.scale]], f"{out}__offset": [reach.offset]}
    for name, value in stored.items():
        array = np.asarray(value, np.float32)
        model.graph.initializer.append(edit.tensor_of(array, name))
        infos[name] = TensorInfo(array.shape, array.dtype)
    model.graph.node.append(helper.make_node("Mul", [prepared.logits, f"{out}__scale"], [scaled]))
    model.graph.node.append(helper.make_node("Add", [scaled, f"{out}__offset"], [out]))
    infos[scaled] = infos[out] = infos[prepared.logits]
    edit.set_output(model.graph, out)
    return replace(prepared, model=model, infos=infos, logits=out)
