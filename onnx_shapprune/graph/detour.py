"""A file without the branches that go past its network: each joining node passes on the network's side alone."""

import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.provenance.flow import Provenance
from onnx_shapprune.graph.provenance.ways import joinings


def without_branches(model: onnx.ModelProto, p: Provenance) -> tuple[onnx.ModelProto, tuple[str, ...]] | None:
    """A copy in which every node of rule OSP212 became an Identity of what comes from the network, and the tensors that
    these nodes make. None where there is no such node, or one that cannot be passed over: inside a branch or a local
    function, or with scores of another shape than the network's. p: the way of the picture through the model.
    """
    kept: dict[str, str] = {}
    for node, _, network in joinings(p):
        (out,) = node.output[:1]
        if out not in kept or _weights(network, p) > _weights(kept[out], p):
            kept[out] = network
    copy = edit.copy_of(model)
    made = edit.producers(copy.graph)
    known = {i.name for i in copy.graph.input} | made.keys()
    if not kept or any(not _passes(out, network, p) or {out, network} - known for out, network in kept.items()):
        return None
    for out, network in kept.items():
        made[out].CopyFrom(onnx.helper.make_node("Identity", [network], [out], name=made[out].name))
    edit.prune_dead(copy.graph)
    return copy, tuple(kept)


def _weights(name: str, p: Provenance) -> int:
    return p.stored(p.of(name).layers)


def _passes(out: str, network: str, p: Provenance) -> bool:
    """Whether one may stand for the other, by shape and by how many results the node has."""
    return len(p.made[out].output) == 1 and p.spread.shapes.get(out) == p.spread.shapes.get(network)
