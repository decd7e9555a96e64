"""Files that nobody would write: bytes of small models changed at random, fields set to extremes, graphs of random nodes.

mutant(seed, index) is the same bytes on every machine with the same onnx.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

try:
    import models
except ModuleNotFoundError:  # run as a program, not by pytest
    from tests import models
sys.path[:0] = [str(Path(__file__).parents[1] / "evasions"), str(Path(__file__).parents[1])]  # for what tests import
from one_score import ending_in, keras  # noqa: E402
from sly_edits import PLANTED, SWITCHES, Design  # noqa: E402

Random = np.random.Generator
EXTREMES = (0, 1, -1, 2, 3, 7, 2**15, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**31), -(2**63))
SMALL = (0, 1, -1, 2, 3, 4, 8, -2, 100)
NAMES = ("", "x", "a\x1b[31mb", "a\nb", "c0", "nowhere", "é" * 3, "y" * 3000, "::error::")
TYPES = [t for t in TensorProto.DataType.values() if t]
KINDS = AttributeProto
TRIES = 6
EDITED = (
    "less_and_where",
    "branch_by_if",
    "in_a_loop",
    "in_a_local_function",
    "a_wide_branch",
    "swapped_by_gather_elements",
    "only_batches_of_one",
    "whole_bytes_by_sine",
    "a_random_fifth",
    "no_number_for_a_slope",
)
UNARY = ("Relu", "Sigmoid", "Exp", "Log", "Sqrt", "Neg", "Abs", "Erf", "Identity", "Dropout", "Shape", "Not", "Tanh", "Selu",
         "GlobalAveragePool", "Floor", "IsNaN", "NonZero", "Size", "HardSwish", "Mish", "Reciprocal")  # fmt: skip
BINARY = (
    "Add",
    "Mul",
    "Sub",
    "Div",
    "Pow",
    "Max",
    "Min",
    "PRelu",
    "MatMul",
    "Mod",
    "Equal",
    "Expand",
    "Tile",
    "Gather",
)
REDUCE = (
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL2",
    "ReduceLogSumExp",
    "ArgMax",
    "TopK",
)
SHAPES = (
    [0, -1],
    [1, 3, 8, 8],
    [-1, 3, 64],
    [0, 0, 0, 0],
    [2, -1],
    [-1],
    [0, 3, -1, 1],
    [-1, -1],
    [192],
    [0, 192, 1, 1],
)
SCALES = ([1, 1, 2, 2], [1, 1, 0.5, 0.5], [1, 1, 0, 1], [1, 1, 1e9, 1], [2, 1, 1, 1], [1, 1], [1, 1, -1, 1])


@cache
def seeds() -> tuple[onnx.ModelProto, ...]:
    """Small models of every family, some with functions, control flow, sparse weights and generators, some of which the
    graph itself decides, and some of one score.
    """
    made = [build() for build in models.FAMILIES.values()]
    plain = models.conv_bn_relu_residual()
    with_function = onnx.ModelProto.FromString(plain.SerializeToString())
    opset = [helper.make_opsetid("", 17)]
    body = [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Neg", ["t"], ["b"])]
    with_function.functions.append(helper.make_function("own", "f", ["a"], ["b"], body, opset, attributes=["alpha"]))
    with_function.opset_import.append(helper.make_opsetid("own", 1))
    _pass_through(with_function, helper.make_node("f", ["x"], ["front"], domain="own", alpha=1.0))
    made += [with_function, _with_loop(plain), _with_if(plain), _with_sparse(plain), _with_generators(plain)]
    mask = np.zeros(models.SHAPE)
    mask[:, 1:4, 1:4] = 1
    design = Design(plain, models.conv_bn_relu_residual(1), mask, np.ones(models.SHAPE), 1)
    made += [edit(design) for name, edit in (SWITCHES | PLANTED).items() if name in EDITED]
    made += [keras(), keras(vector=True), ending_in(("Clip", (-1, 1), {}), ("Sigmoid", (), {}))]
    return tuple(made)


def _pass_through(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Nodes that make `front` out of `x`, in front of everything that read `x`."""
    for node in model.graph.node:
        node.input[:] = ["front" if name == "x" else name for name in node.input]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _value(name: str, kind: int, shape: Sequence[int | str] | None = ()) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _with_loop(plain: onnx.ModelProto) -> onnx.ModelProto:
    model = _copy(plain)
    nodes = [helper.make_node("Identity", ["go"], ["go_out"]), helper.make_node("Abs", ["c"], ["c_out"])]
    body = helper.make_graph(
        nodes, "body", [_value("i", TensorProto.INT64), _value("go", TensorProto.BOOL), _value("c", 1, None)],
        [_value("go_out", TensorProto.BOOL), _value("c_out", 1, None)],
    )  # fmt: skip
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array(3), "count"), numpy_helper.from_array(np.array(True), "yes")]
    )
    _pass_through(model, helper.make_node("Loop", ["count", "yes", "x"], ["front"], body=body))
    return model


def _with_if(plain: onnx.ModelProto) -> onnx.ModelProto:
    model = _copy(plain)
    branches = {
        f"{name}_branch": helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [_value(name, 1, None)])
        for name, op in (("then", "Relu"), ("else", "Neg"))
    }
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    _pass_through(model, helper.make_node("If", ["yes"], ["front"], **branches))
    return model


def _with_sparse(plain: onnx.ModelProto) -> onnx.ModelProto:
    model = _copy(plain)
    values = numpy_helper.from_array(np.ones(2, np.float32), "sparse")
    indices = numpy_helper.from_array(np.array([[0, 0], [1, 1]]), "sparse_at")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [8, 8]))
    _pass_through(model, helper.make_node("Add", ["x", "sparse"], ["front"]))
    return model


def _with_generators(plain: onnx.ModelProto) -> onnx.ModelProto:
    model = _copy(plain)
    constants = {"shape": [1, 3, 8, 8], "repeats": [1, 1, 1, 1], "pads": [0] * 8, "zero": 0, "three": 3, "one": 1}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in constants.items())
    _pass_through(
        model,
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Add", ["x", "zeros"], ["g1"]),
        helper.make_node("Tile", ["g1", "repeats"], ["g2"]),
        helper.make_node("Pad", ["g2", "pads"], ["g3"]),
        helper.make_node("Expand", ["g3", "shape"], ["g4"]),
        helper.make_node("Range", ["zero", "three", "one"], ["g5"]),
        helper.make_node("Gather", ["g4", "g5"], ["front"], axis=1),
    )
    return model


def mutant(seed: int, index: int) -> bytes:
    """The bytes of one file."""
    rng = np.random.default_rng([seed, index])
    kind = rng.random()
    if kind < 0.25:
        return _bytes_changed(rng)
    for _ in range(TRIES if rng.random() < 0.8 else 1):
        model = _changed(rng) if kind < 0.65 else _random_graph(rng)
        if _checked(model):
            break
    payload = model.SerializeToString()
    return _damaged(bytearray(payload), rng) if rng.random() < 0.05 else payload


def _changed(rng: Random) -> onnx.ModelProto:
    model = _copy(seeds()[rng.integers(len(seeds()))])
    for _ in range(rng.integers(1, 5)):
        EDITS[rng.integers(len(EDITS))](model, rng)
    return model


def _checked(model: onnx.ModelProto) -> bool:
    """Whether the onnx checker lets a model pass: what it refuses gets no further here."""
    try:
        onnx.checker.check_model(model)
    except Exception:  # it has a dozen ways to say no
        return False
    return True


def _bytes_changed(rng: Random) -> bytes:
    payload = bytearray(seeds()[rng.integers(len(seeds()))].SerializeToString())
    for _ in range(rng.integers(1, 4)):
        payload = bytearray(_damaged(payload, rng))
    return bytes(payload)


def _damaged(payload: bytearray, rng: Random) -> bytes:
    """Bytes changed, cut, left out, repeated, put in, or taken over from another model."""
    if not payload:
        return b""
    at, end = sorted(rng.integers(0, len(payload), 2).tolist())
    end = min(end, at + int(rng.integers(1, 200)))
    match rng.integers(7):
        case 0:
            for i in rng.integers(0, len(payload), rng.integers(1, 9)):
                payload[i] = rng.integers(256)
        case 1:
            payload[at] ^= 1 << int(rng.integers(8))
        case 2:
            del payload[at:]
        case 3:
            del payload[at:end]
        case 4:
            payload[at:at] = payload[at:end] * int(rng.integers(1, 4))
        case 5:
            payload[at:at] = bytes([*[0xFF] * int(rng.integers(1, 10)), int(rng.integers(128))])
        case _:
            other = seeds()[rng.integers(len(seeds()))].SerializeToString()
            payload[at:end] = other[at : at + int(rng.integers(1, 500))]
    return bytes(payload)


def _pick(values: Sequence, rng: Random):
    return values[rng.integers(len(values))] if len(values) else None


def _graph(model: onnx.ModelProto, rng: Random) -> onnx.GraphProto:
    """The graph, a subgraph of it, or the body of a function as a graph."""
    inner = [g for n in model.graph.node for a in n.attribute if a.HasField("g") for g in [a.g]]
    return _pick(inner, rng) if inner and rng.random() < 0.4 else model.graph


def _nodes(model: onnx.ModelProto, rng: Random):
    return _pick(model.functions, rng).node if len(model.functions) and rng.random() < 0.4 else _graph(model, rng).node


def _names(model: onnx.ModelProto) -> list[str]:
    return [*NAMES, *(t.name for t in model.graph.initializer), *(n for node in model.graph.node for n in node.output)]


def _number(rng: Random) -> int:
    return int(_pick(EXTREMES if rng.random() < 0.4 else SMALL, rng))


def _int32(number: int) -> int:
    return max(-(2**31), min(2**31 - 1, number))


def _dims(model: onnx.ModelProto, rng: Random) -> None:
    tensor = _pick(_graph(model, rng).initializer, rng)
    if tensor is None:
        return
    if rng.random() < 0.3 or not len(tensor.dims):
        tensor.dims.append(_number(rng))
    elif rng.random() < 0.3:
        del tensor.dims[rng.integers(len(tensor.dims))]
    else:
        tensor.dims[rng.integers(len(tensor.dims))] = _number(rng)


def _payload(model: onnx.ModelProto, rng: Random) -> None:
    tensor = _pick(_graph(model, rng).initializer, rng)
    if tensor is None:
        return
    match rng.integers(5):
        case 0:
            tensor.data_type = int(_pick([*TYPES, 0, 99, -5], rng))
        case 1:
            tensor.raw_data = tensor.raw_data[: rng.integers(len(tensor.raw_data) + 1)]
        case 2:
            tensor.float_data.append(1.0)
        case 3:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=str(_pick(["w.bin", "../x", "/etc/passwd", "", "."], rng)))
            tensor.external_data.add(key=str(_pick(["offset", "length", "zzz"], rng)), value=str(_number(rng)))
        case _:
            array = np.full(tuple(tensor.dims), _pick([np.nan, np.inf, -1, 0, 1e30], rng), np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _integers(model: onnx.ModelProto, rng: Random) -> None:
    """Constants that are shapes, counts and axes."""
    whole = [t for t in model.graph.initializer if t.data_type == TensorProto.INT64]
    tensor = _pick(whole, rng)
    if tensor is None:
        return
    array = numpy_helper.to_array(tensor).copy() if len(tensor.raw_data) % 8 == 0 and _sound(tensor) else np.zeros(1)
    if array.size:
        array.reshape(-1)[rng.integers(array.size)] = _number(rng)
    tensor.CopyFrom(numpy_helper.from_array(array.astype(np.int64), tensor.name))


def _sound(tensor: onnx.TensorProto) -> bool:
    """Whether its values stand in the file, as many as it declares."""
    if tensor.data_location == TensorProto.EXTERNAL:
        return False
    return all(0 <= d < 100 for d in tensor.dims) and 8 * int(np.prod(tensor.dims)) == len(tensor.raw_data)


def _attribute(model: onnx.ModelProto, rng: Random) -> None:
    node = _pick(_nodes(model, rng), rng)
    attribute = None if node is None else _pick(node.attribute, rng)
    if attribute is None:
        if node is not None:
            node.attribute.append(helper.make_attribute(str(_pick(["axis", "to", "group", "zzz"], rng)), _number(rng)))
        return
    match rng.integers(5):
        case 0:
            attribute.i = _number(rng)
        case 1:
            attribute.ints[:] = [_number(rng) for _ in range(rng.integers(0, 6))]
        case 2:
            attribute.name = str(_pick(["axis", "perm", "kernel_shape", "pads", "strides", "to", "", "body"], rng))
        case 3:
            attribute.type = int(rng.integers(0, 15))
        case _:
            node.attribute.remove(attribute)


def _operator(model: onnx.ModelProto, rng: Random) -> None:
    node = _pick(_nodes(model, rng), rng)
    if node is not None:
        node.op_type = str(_pick(operators(), rng).name)


def _wire(model: onnx.ModelProto, rng: Random) -> None:
    """Inputs and outputs renamed, dropped, repeated: cycles, two makers of one tensor, wrong arities."""
    node, names = _pick(_nodes(model, rng), rng), _names(model)
    if node is None:
        return
    which = node.input if rng.random() < 0.7 else node.output
    match rng.integers(4):
        case 0 if len(which):
            which[rng.integers(len(which))] = str(_pick(names, rng))
        case 1:
            which.append(str(_pick(names, rng)))
        case 2 if len(which):
            del which[rng.integers(len(which))]
        case _:
            del which[:]


def _interface(model: onnx.ModelProto, rng: Random) -> None:
    value = _pick([*model.graph.input, *model.graph.output], rng)
    if value is None:
        return
    tensor = value.type.tensor_type
    match rng.integers(6):
        case 0:
            tensor.elem_type = int(_pick([*TYPES, 0, 99], rng))
        case 1 if len(tensor.shape.dim):
            tensor.shape.dim[rng.integers(len(tensor.shape.dim))].dim_value = _number(rng)
        case 2:
            tensor.shape.dim.add().dim_value = _number(rng)
        case 3:
            value.name = str(_pick(_names(model), rng))
        case 4:
            value.type.sequence_type.elem_type.tensor_type.elem_type = 1
        case _:
            del tensor.shape.dim[:]


def _structure(model: onnx.ModelProto, rng: Random) -> None:
    graph = _graph(model, rng)
    field = (graph.node, graph.initializer, graph.input, graph.output, model.functions)[rng.integers(5)]
    if not len(field):
        return
    at = int(rng.integers(len(field)))
    match rng.integers(3):
        case 0:
            del field[at]
        case 1:
            field.add().CopyFrom(field[at])
        case _:
            kept = [type(m).FromString(m.SerializeToString()) for m in field]
            del field[:]
            field.extend(kept[i] for i in rng.permutation(len(kept)))


def _versions(model: onnx.ModelProto, rng: Random) -> None:
    match rng.integers(4):
        case 0:
            model.ir_version = _number(rng)
        case 1 if len(model.opset_import):
            model.opset_import[0].version = int(rng.integers(0, 30)) if rng.random() < 0.8 else _number(rng)
        case 2:
            model.opset_import.append(helper.make_opsetid(str(_pick(["", "ai.onnx", "acme", "own"], rng)), 17))
        case _:
            node = _pick(_nodes(model, rng), rng)
            if node is not None:
                node.domain = str(_pick(["acme", "com.microsoft", "ai.onnx.ml", "own", "ai.onnx"], rng))


def _name(model: onnx.ModelProto, rng: Random) -> None:
    node, tensor = _pick(_nodes(model, rng), rng), _pick(_graph(model, rng).initializer, rng)
    target = node if node is not None and (tensor is None or rng.random() < 0.5) else tensor
    if target is not None:
        target.name = str(_pick(_names(model), rng))


def _recursion(model: onnx.ModelProto, rng: Random) -> None:
    """A function that calls itself, others, or too many."""
    for function in model.functions:
        for _ in range(rng.integers(1, 4)):
            function.node.append(helper.make_node("f", ["a"], [f"r{rng.integers(9)}"], domain="own"))


EDITS: tuple[Callable[[onnx.ModelProto, Random], None], ...] = (
    _dims, _payload, _integers, _integers, _attribute, _attribute, _attribute, _operator, _operator, _wire, _wire,
    _interface, _interface, _structure, _versions, _name, _recursion,
)  # fmt: skip


@cache
def operators() -> tuple[onnx.defs.OpSchema, ...]:
    """The newest schema of every standard operator, in the order of their names."""
    newest: dict[str, onnx.defs.OpSchema] = {}
    for schema in onnx.defs.get_all_schemas():
        if schema.domain == "":
            newest[schema.name] = schema
    return tuple(newest[name] for name in sorted(newest))


def _random_graph(rng: Random) -> onnx.ModelProto:
    """Up to a dozen random operators on a picture, with constants of odd sizes, and a dense layer behind them."""
    net = models.Net(int(rng.integers(1 << 30)))
    tensors = ["x"]
    wild = rng.random() < 0.4
    for _ in range(rng.integers(1, 12)):
        if not wild:
            tensors.append(_tame(net, str(_pick(tensors[-3:], rng)), str(_pick(tensors, rng)), rng))
            continue
        schema = _pick(operators(), rng)
        inputs = [_random_input(net, tensors, rng) for _ in range(_arity(schema, rng))]
        try:
            attributes = {
                name: _random_attribute(int(a.type), rng)
                for name, a in sorted(schema.attributes.items())
                if a.required or rng.random() < 0.2
            }
            name = net.op(schema.name, *inputs, **{k: v for k, v in attributes.items() if v is not None})
        except (ValueError, TypeError):
            continue
        tensors.append(name)
        for extra in range(1, min(schema.max_output, int(rng.integers(1, 4)))):
            net.nodes[-1].output.append(f"{name}_{extra}")
            tensors.append(f"{name}_{extra}")
    last = tensors[-1] if rng.random() < 0.7 else "x"
    if rng.random() < 0.7:
        last = net.dense(net.op("Flatten", last), 192, models.CLASSES)
    return net.model(last, opset=int(rng.integers(7, 25)), batch=_pick([None, None, 1, 2], rng))


def _tame(net: models.Net, x: str, other: str, rng: Random) -> str:
    """A node that most tensors of rank 4 take, with attributes that are usually right."""
    axis = int(rng.integers(-2, 5))
    pair = [int(v) for v in rng.integers(0, 4, 2)]
    match rng.integers(16):
        case 0:
            return net.op(str(_pick(UNARY, rng)), x)
        case 1:
            return net.op(str(_pick(BINARY, rng)), x, other)
        case 2:
            return net.op("Transpose", x, perm=[int(i) for i in rng.permutation(4)])
        case 3:
            return net.op("Reshape", x, net.const(np.array(_pick(SHAPES, rng), np.int64)))
        case 4:
            return net.op("Concat", x, other, axis=axis)
        case 5:
            return net.op("Slice", x, *(net.const(np.array([_number(rng)])) for _ in range(4)))
        case 6:
            return net.op("Pad", x, net.const(np.array([_number(rng) if rng.random() < 0.2 else 0 for _ in range(8)])))
        case 7:
            return net.op(str(_pick(REDUCE, rng)), x, net.const(np.array([axis])), keepdims=int(rng.integers(2)))
        case 8:
            return net.conv(x, 3, int(_pick([1, 3, 4], rng)), int(_pick([1, 3], rng)))
        case 9:
            kind = str(_pick(["MaxPool", "AveragePool", "LpPool"], rng))
            return net.op(
                kind, x, kernel_shape=[max(1, p) for p in pair], pads=pair * 2, ceil_mode=int(rng.integers(2))
            )
        case 10:
            return net.op(str(_pick(["Softmax", "LogSoftmax", "Hardmax", "Flatten"], rng)), x, axis=axis)
        case 11:
            return net.op("Cast", x, to=int(_pick([1, 10, 7, 9, 11, 16], rng)))
        case 12:
            return net.op("Gather", x, net.const(np.array(pair)), axis=axis)
        case 13:
            return net.op("Resize", x, "", net.const(np.array(_pick(SCALES, rng), np.float32)), mode="nearest")
        case 14:
            return net.op(str(_pick(["Squeeze", "Unsqueeze"], rng)), x, net.const(np.array([axis])))
        case _:
            return net.op(
                "Where", net.op("Greater", x, other), x, net.const(rng.normal(size=(1, 1)).astype(np.float32))
            )


def _arity(schema: onnx.defs.OpSchema, rng: Random) -> int:
    least, most = schema.min_input, min(schema.max_input, schema.min_input + 3)
    return int(rng.integers(least, most + 1))


def _random_input(net: models.Net, tensors: list[str], rng: Random) -> str:
    kind = rng.random()
    if kind < 0.6:
        return str(_pick(tensors, rng))
    if kind < 0.75:
        return net.const(np.array([_number(rng) for _ in range(rng.integers(0, 5))], np.int64))
    if kind < 0.85:
        return net.const(np.array(_number(rng)))
    if kind < 0.95:
        return net.const(rng.normal(size=rng.integers(0, 5, rng.integers(0, 5))).astype(np.float32))
    return ""


def _random_attribute(kind: int, rng: Random):
    if kind == KINDS.INT:
        return _number(rng)
    if kind == KINDS.INTS:
        return [_number(rng) for _ in range(rng.integers(1, 6))]
    if kind == KINDS.FLOAT:
        return float(_pick([0.0, 1.0, -1.0, 1e30, np.nan, np.inf], rng))
    if kind == KINDS.FLOATS:
        return rng.normal(size=rng.integers(1, 5)).tolist()
    if kind == KINDS.STRING:
        return str(_pick(["linear", "nearest", "constant", "SAME_UPPER", "NOTSET", "ij,jk->ik", "DCR", "zzz"], rng))
    if kind == KINDS.TENSOR:
        return numpy_helper.from_array(np.ones(rng.integers(0, 3), np.float32), "v")
    return None
