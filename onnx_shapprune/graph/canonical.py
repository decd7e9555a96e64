"""The same answers without what only hides them: ends that keep the order of the scores are taken off.

A verdict must not change under anything that leaves the largest score where it is. Behind a Clip, a sharp Softmax or a
factor of 1e-6 margins saturate and gradients vanish; before them stand the same classes in the same order. Roundings behind
the last layer that change nothing but the slope (obfuscated gradients, Athalye et al., ICML 2018) are left out as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.one_score import without_end
from onnx_shapprune.graph.passes.ends import FLOATS, LAYING, SILENT, Tail, before
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.provenance.operators import LAYERS, ROUNDS
from onnx_shapprune.graph.rising import rising_end, tail_of
from onnx_shapprune.graph.scopes import operands
from onnx_shapprune.runtime.probe import TensorInfo
from onnx_shapprune.runtime.session import Device, Session

FINE = 0.01  # of the scores' spread: a rounding that changes them by less decides nothing
MOST_ENDS = 64


@dataclass(frozen=True, slots=True)
class Reach:
    """What of a model's scores statistics are about. classes: those that something reaches; offset: added to each score, so
    that copies do not stand in the way; scale: of all scores; notes: what was left out, in words; waits: classes that were
    left out though something may reach them, as far as the last layer says.
    """

    classes: tuple[int, ...]
    offset: tuple[float, ...]
    scale: float
    notes: tuple[str, ...]
    waits: tuple[int, ...] = ()


def canonical(prepared: Prepared, device: Device) -> Prepared:
    """The working copy in the form that searches and statistics rest on; itself where nothing is to be taken off."""
    feed = np.random.default_rng(0).random((2 if prepared.batch_free else 1, *prepared.input_shape), np.float32)
    listed = without_ends(without_fine_steps(without_ends(without_end(prepared, device)), feed, device))
    found = rising_end(listed.model, listed.infos, listed.classes, {listed.input: feed}, device)
    return listed if found is None else _ending_at(listed, *found)


def without_ends(prepared: Prepared) -> Prepared:
    """The working copy up to the last tensor that has its scores in the same order, [N, classes]."""
    graph = prepared.model.graph
    tail = Tail(edit.producers(graph), edit.constants(graph), prepared.infos, prepared.classes)
    here, kept, taken = prepared.logits, prepared.logits, list[str]()
    for _ in range(MOST_ENDS):
        node = tail.made.get(here)
        name = None if node is None else before(node, tail)
        if node is None or name is None:
            break
        here = name
        if node.op_type not in LAYING:
            kept = here
            taken += [] if node.op_type in SILENT | {"Cast"} else [node.op_type]
    return prepared if kept == prepared.logits else _ending_at(prepared, kept, taken)


def _ending_at(prepared: Prepared, kept: str, taken: Sequence[str]) -> Prepared:
    """The working copy up to a tensor with one value per class, which becomes its logits [N, classes]."""
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
        return node.op_type in ROUNDS
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


def from_the_last_layers(prepared: Prepared) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The last layers alone and what follows them, and the tensors that they, and what follows, read."""
    graph, behind = prepared.model.graph, set(_behind_the_last_layer(prepared.model.graph, prepared.logits))
    place = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    known = {t.name for t in graph.initializer} | edit.constants(graph).keys()
    read = {n for i in behind for n in graph.node[i].input} | {prepared.logits}
    last = {place[n] for n in read if n in place} - behind
    kept = [graph.node[i] for i in sorted(behind | last) if graph.node[i].op_type != "Constant"]
    made = {name for node in kept for name in node.output}
    entries = sorted({n for node in kept for n in operands(node)} - made - known - {""})
    return tail_of(prepared.model, entries, kept), tuple(entries)


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
