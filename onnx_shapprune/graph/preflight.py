"""Look through a parsed file for what would hurt whoever loads it: nothing runs, and no other file is opened.

Every place that can hold a tensor or a node is visited: initializers, sparse ones, attributes, subgraphs, functions and
training graphs. Numbers of the file are Python integers throughout, so that no product wraps around. What depends on
values that are not in the file as constants is left to the limits of the process that runs it.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import onnx
from onnx import TensorProto

from onnx_shapprune.errors import HostileFileError, ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.generators import Constants, generated_bytes, trips
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.graph.payload import elements, number, sparse_fault, tensor_fault
from onnx_shapprune.graph.scopes import subgraphs
from onnx_shapprune.graph.sizes import from_sizes
from onnx_shapprune.graph.staging import escapes

KNOWN_DOMAINS = (*edit.DEFAULT_DOMAIN, "ai.onnx.ml", "com.microsoft")
REFUSED = frozenset({"OSP001", "OSP002", "OSP003", "OSP004", "OSP006"})
UNFIT = frozenset({"OSP007", "OSP009"})  # no harm meant, and no use in going on
EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}
MEMORY_ADDRESS = "_ORT_MEM_ADDR_"  # onnxruntime takes the offset of such a location for a pointer
MAX_PER_RULE, MAX_TEXT = 10, 300
# Control characters, and those that change how a line reads: bidi, zero width, line and paragraph separators.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


class Hazard(NamedTuple):
    """Something that a rule of gate/rules.py is about. rule: its id; text: what was found, and where."""

    rule: str
    text: str


def preflight(model: onnx.ModelProto, limits: FileLimits) -> tuple[Hazard, ...]:
    """What is wrong with a model, in the order of the rules, at most MAX_PER_RULE of each.

    Raises ModelError when a name is no text: protobuf then hands over bytes, which nothing behind this expects.
    """
    look = _Look(model, limits)
    with contextlib.suppress(_TooMuchError):
        look.everything()
    return tuple(sorted(look.hazards, key=lambda h: h.rule))


def refuse(hazards: Sequence[Hazard]) -> None:
    """Raise HostileFileError, or ModelError where only size or the batch stand in the way, unless neither is needed."""
    if grave := [h for h in hazards if h.rule in REFUSED]:
        raise HostileFileError(grave)
    for hazard in hazards:
        if hazard.rule in UNFIT:
            hint = "; raise it with --limit only for a source that you trust" if "(limit" in hazard.text else ""
            raise ModelError(f"{hazard.rule}: {hazard.text}{hint}")


def _fed(graph: onnx.GraphProto) -> set[str]:
    """Tensors of a graph that depend on what it is fed with, in whatever order its nodes stand."""
    stored = {t.name for t in graph.initializer}
    found = {i.name for i in graph.input} - stored
    readers, todo = edit.consumers(graph), list(found)
    while todo:
        made = {o for node in readers.get(todo.pop(), ()) for o in node.output} - found
        found |= made
        todo += made
    return found


Key = tuple[str, str, str]  # of a local function: domain, name, overload


class _TooMuchError(Exception):
    """There is no use in looking further."""


@dataclass(slots=True)
class _Body:
    """The nodes of the graph or of one function, subgraphs included: how many, and which functions they call."""

    nodes: int = 0
    calls: Counter[Key] = field(default_factory=Counter)


@dataclass(slots=True)
class _Scope:
    """A list of nodes to visit. known: constants of this and the outer scopes; trips: of all loops around it."""

    nodes: Iterable[onnx.NodeProto]
    known: Constants
    body: _Body
    depth: int = 0
    trips: int = 1


class _Look:
    def __init__(self, model: onnx.ModelProto, limits: FileLimits) -> None:
        self._model, self._limits = model, limits
        self._functions = {_key(f): _Body() for f in model.functions}
        self._domains = {*KNOWN_DOMAINS, *(f.domain for f in model.functions)}
        self._main = _Body()
        self._fed: set[str] | None = None  # of the graph itself, once somebody asks
        self._visited = self._generated = 0
        self.hazards: list[Hazard] = []

    def everything(self) -> None:
        model, main = self._model, self._main
        self._names([model.producer_name, model.producer_version, model.domain, *_of_metadata(model)], "the model")
        scopes = [self._graph(model.graph, Constants(), main)]
        for training in model.training_info:
            scopes += [self._graph(g, Constants(), main) for g in (training.initialization, training.algorithm)]
        for function in model.functions:
            self._names([*_key(function), *function.input, *function.output], "a local function")
            defaults = onnx.NodeProto(attribute=function.attribute_proto)
            scopes.append(_Scope([defaults, *function.node], Constants(), self._functions[_key(function)]))
        while scopes:
            scopes += self._visit(scopes.pop())
        self._expansion(main)

    def _say(self, rule: str, text: str) -> None:
        hazard = Hazard(rule, text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…")
        if hazard not in self.hazards and sum(h.rule == rule for h in self.hazards) < MAX_PER_RULE:
            self.hazards.append(hazard)

    def _graph(
        self, graph: onnx.GraphProto, outer: Constants, body: _Body, *, depth: int = 0, trips: int = 1
    ) -> _Scope:
        known = outer.inner()
        for tensor in graph.initializer:
            if self._tensor(tensor):
                known.add(tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            self._sparse(sparse)
        for value in (*graph.input, *graph.output, *graph.value_info):
            self._names([value.name, *(d.dim_param for d in value.type.tensor_type.shape.dim)], "a value")
        return _Scope(graph.node, known, body, depth, trips)

    def _visit(self, scope: _Scope) -> Iterator[_Scope]:
        """Check the nodes of a scope; gives the scopes inside it."""
        for node in scope.nodes:
            self._visited += 1
            scope.body.nodes += 1
            if self._visited > self._limits.nodes:
                self._say("OSP007", f"more than {self._limits.nodes:,} nodes (limit nodes)")
                raise _TooMuchError
            self._names([node.name, node.op_type, node.domain, *node.input, *node.output], "a node")
            call = (node.domain, node.op_type, node.overload)
            if call in self._functions:
                scope.body.calls[call] += 1
            elif node.domain not in self._domains:
                self._say("OSP005", f"operators of unknown domains: {node.domain}")
            sound = [self._tensor(t) for t in _tensors(node)]
            for attribute in node.attribute:
                for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
                    self._sparse(sparse)
            if all(sound) and node.domain in edit.DEFAULT_DOMAIN:
                self._bound(node, scope)
                self._batch(node, scope)
            inner = list(subgraphs(node))
            if inner and scope.depth >= self._limits.depth:
                self._say("OSP007", f"subgraphs nested deeper than {self._limits.depth} (limit depth)")
                continue
            rounds = scope.trips
            if node.op_type == "Loop" and node.domain in edit.DEFAULT_DOMAIN:
                rounds *= self._loop(node, scope)
            for graph in inner:
                self._names([graph.name], "a subgraph")
                yield self._graph(graph, scope.known, scope.body, depth=scope.depth + 1, trips=rounds)

    def _batch(self, node: onnx.NodeProto, scope: _Scope) -> None:
        """A BatchNormalization in training mode, which older versions tell by its outputs. One of weights, which no picture
        enters, is how they are standardised (Qiao et al., arXiv:1903.10520).
        """
        trains = any(a.name == "training_mode" and a.i for a in node.attribute) or any(node.output[1:])
        if node.op_type != "BatchNormalization" or not trains:
            return
        if self._fed is None:
            self._fed = _fed(self._model.graph)
        if scope.depth or scope.body is not self._main or node.input[0] in self._fed:
            self._say(
                "OSP009",
                f"BatchNormalization {_name(node)} is in training mode, so answers depend on the other pictures of the "
                "batch; export the model in evaluation mode",
            )

    def _loop(self, node: onnx.NodeProto, scope: _Scope) -> int:
        count, limit = trips(node, scope.known), self._limits.trips
        if count is None and self._counts_sizes(node, scope):
            return 1  # bounded once the sizes are known
        if count is None:
            self._say("OSP006", f"Loop {_name(node)} has a trip count that is no constant")
        elif count * scope.trips > limit:
            self._say(
                "OSP006", f"Loop {_name(node)} runs {count * scope.trips:,} times, more than {limit:,} (limit trips)"
            )
        return max(1, count or 1)

    def _counts_sizes(self, node: onnx.NodeProto, scope: _Scope) -> bool:
        """Whether a Loop of the graph itself, with no other in it, counts what follows from sizes."""
        inner = [n for graph in subgraphs(node) for n in graph.node]
        if scope.depth or not node.input or any(n.op_type == "Loop" or any(subgraphs(n)) for n in inner):
            return False
        graph = self._model.graph
        return from_sizes(node.input[0], edit.producers(graph), {t.name for t in graph.initializer})

    def _bound(self, node: onnx.NodeProto, scope: _Scope) -> None:
        size = generated_bytes(node, scope.known) * scope.trips
        scope.known.learn(node)
        if not size:
            return
        self._generated += size
        limit = self._limits.generated_mib << 20
        if self._generated > limit:
            self._generated = 0  # the next one that is too large is named as well
            self._say(
                "OSP004",
                f"{node.op_type} {_name(node)} makes {_bytes(size)} out of constants, and all such operators "
                f"may make {limit >> 20:,} MiB (limit generated-mib)",
            )

    def _tensor(self, tensor: onnx.TensorProto) -> bool:
        """Whether what a tensor says of itself holds together."""
        self._names([tensor.name], "a tensor")
        if fault := tensor_fault(tensor):
            self._say("OSP003", f"tensor {tensor.name!r} {fault}")
        if tensor.data_location == TensorProto.EXTERNAL:
            self._external(tensor)
        return not fault

    def _external(self, tensor: onnx.TensorProto) -> None:
        entries = [(e.key, e.value) for e in tensor.external_data]
        self._names([text for entry in entries for text in entry], "an external tensor")
        keys = [key for key, _ in entries]
        location = dict(entries).get("location", "")
        if set(keys) - EXTERNAL_KEYS or len(keys) != len(set(keys)) or not location:
            self._say("OSP003", f"external data of tensor {tensor.name!r} is malformed: keys {sorted(keys)[:8]}")
        if MEMORY_ADDRESS in location:
            self._say("OSP002", f"external data of tensor {tensor.name!r} is an address in memory: {location!r}")
        elif escapes(location):
            self._say(
                "OSP001", f"external data of tensor {tensor.name!r} points outside the model's folder: {location!r}"
            )
        for key in ("offset", "length"):
            text = dict(entries).get(key, "0")
            if not re.fullmatch(r"[0-9]{1,18}", text):
                self._say("OSP003", f"external data of tensor {tensor.name!r} has a broken {key}: {text!r}")

    def _sparse(self, sparse: onnx.SparseTensorProto) -> None:
        if not sparse.dims and not sparse.values.dims:
            return  # an attribute without one gives an empty message
        limit = self._limits.generated_mib << 20
        if self._tensor(sparse.values) and self._tensor(sparse.indices):
            if fault := sparse_fault(sparse):
                self._say("OSP003", f"sparse tensor {sparse.values.name!r} {fault}")
            elif (size := 8 * elements(sparse.dims)) > limit:
                self._say(
                    "OSP004", f"sparse tensor {sparse.values.name!r} stands for {_bytes(size)} (limit generated-mib)"
                )

    def _names(self, names: Iterable[str], where: str) -> None:
        for name in names:
            if not isinstance(name, str):
                raise ModelError("the file holds names that are not UTF-8 text")
            if UNSEEN.search(name):
                self._say("OSP008", f"control characters in a name of {where}: {name[:80]!r}")

    def _expansion(self, main: _Body) -> None:
        """Nodes with all functions written out: a few functions that call each other twice make any number."""
        heights: dict[Key, int] = {}
        sizes: dict[Key, int] = {}
        waiting = dict(self._functions)
        while ready := [key for key, body in waiting.items() if not body.calls.keys() - sizes.keys()]:
            for key in ready:
                body = waiting.pop(key)
                heights[key] = 1 + max((heights[called] for called in body.calls), default=0)
                sizes[key] = _written_out(body, sizes)
        if waiting:
            self._say("OSP007", "local functions call themselves")
        elif max(heights.values(), default=0) > self._limits.depth:
            self._say("OSP007", f"local functions call each other deeper than {self._limits.depth} (limit depth)")
        elif (count := _written_out(main, sizes)) > self._limits.nodes:
            self._say(
                "OSP007",
                f"local functions written out make {number(count)} nodes, more than {self._limits.nodes:,} "
                "(limit nodes)",
            )


def _key(function: onnx.FunctionProto) -> Key:
    return function.domain, function.name, function.overload


def _written_out(body: _Body, sizes: Mapping[Key, int]) -> int:
    return body.nodes + sum(times * sizes[called] for called, times in body.calls.items())


def _tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def _of_metadata(model: onnx.ModelProto) -> Iterator[str]:
    for entry in model.metadata_props:
        yield entry.key
    for opset in model.opset_import:
        yield opset.domain


def _name(node: onnx.NodeProto) -> str:
    return repr(node.name or next((o for o in node.output if o), ""))


def _bytes(size: int) -> str:
    return f"{number(size >> 20)} MiB"
