"""Which input takes the picture, which output gives the classes, and in which layout: read from the graph alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.sizes import dims_of

Layout = Literal["NCHW", "NHWC"]
SCORE_TYPES = ("float32", "float16", "float64")
QUANTISED = ("uint8", "int8")  # scores where one step is known that they are rounded to
VALUE_BY_VALUE = {"Identity", "Cast", "DequantizeLinear", "Sub", "Add", "Mul", "Div", "Clip", "Dropout"}
# Not float64: pictures are prepared in float32, so that a file could tell an audit by numbers that are never finer.
PICTURE_TYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
}
WHOLE = {"uint8": (0.0, 255.0), "int8": (-128.0, 127.0)}  # what bytes 0 and 255 of a picture are there


@dataclass(frozen=True, slots=True)
class Interface:
    """How pictures enter and scores leave.

    input, output: tensor names. dims: shape of a picture in `layout`, None where the file and the caller leave it open.
    layout: "NCHW" or "NHWC". channels, height, width: None where they are open. batch: the declared fixed batch size,
    or None where it is free. dtype: of PICTURE_TYPES. entry: shape in which the file itself takes pictures, -1 for
    the batch, where that is another than [N, *dims]: flattened, or without a batch dimension. one_score: whether there is
    one score for each picture, the probability of class 1 of two; told by `read_classifier`.
    """

    input: str
    output: str
    dims: tuple[int | None, ...]
    layout: Layout
    channels: int | None
    height: int | None
    width: int | None
    batch: int | None
    dtype: str
    entry: tuple[int, ...] | None = None
    one_score: bool = False

    @property
    def scaled(self) -> bool:
        """Whether bytes become other numbers before the file gets them."""
        return self.dtype not in WHOLE


def find_interface(
    model: onnx.ModelProto, *, layout: str = "auto", output: str | None = None, size: tuple[int, int] | None = None
) -> Interface:
    """Read the interface of an image classifier; ModelError says why a model is none.

    size: height and width where the file leaves them open, as one that takes flattened pictures does.
    """
    graph = model.graph
    initializers = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in initializers]
    if len(inputs) != 1:
        raise ModelError(f"not an image classifier: {len(inputs)} inputs instead of one picture input")
    tensor = inputs[0].type.tensor_type
    if not inputs[0].type.HasField("tensor_type") or tensor.elem_type not in PICTURE_TYPES:
        raise ModelError(
            f"input {inputs[0].name!r} is no tensor of float32, float16, uint8 or int8, and no other is audited: export the "
            "model with one"
        )
    shape = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim]
    first = first_channels(graph, inputs[0].name)
    shape, entry = _picture_batch(shape, inputs[0].name, layout, size)
    names = [o.name for o in graph.output]
    if not names:
        raise ModelError("not an image classifier: the model has no outputs")
    if output is not None and output not in names:
        raise ModelError(f"the model has no output {output!r}; it has {', '.join(names[:8])}")
    output = output or _scores_among(graph.output)
    result = next(o for o in graph.output if o.name == output)
    if result.type.WhichOneof("value") not in (None, "tensor_type"):
        raise ModelError(f"not an image classifier: output {result.name!r} is no tensor")
    chosen = _layout(shape, layout, first)
    channel = 1 if chosen == "NCHW" else 3
    height, width = (2, 3) if chosen == "NCHW" else (1, 2)
    if shape[channel] is None and first is not None and first[0] == channel:
        shape[channel] = first[1]
    if shape[channel] not in (None, 1, 3):
        raise ModelError(
            f"not an image classifier: {shape[channel]} channels in layout {chosen}; pictures have 1 or 3 "
            "(is --layout right?)"
        )
    if size is not None:
        for axis, asked in zip((height, width), size, strict=True):
            if shape[axis] not in (None, asked):
                raise ModelError(f"--input-size {size[0]} {size[1]} is not what the file says: input shape {shape}")
            shape[axis] = asked
    return Interface(
        input=inputs[0].name,
        output=output,
        dims=tuple(shape[1:]),
        layout=chosen,
        channels=shape[channel],
        height=shape[height],
        width=shape[width],
        batch=shape[0],
        dtype=PICTURE_TYPES[tensor.elem_type],
        entry=entry,
    )


def fed(rows: NDArray[np.floating], interface: Interface) -> NDArray[np.generic]:
    """Rows [n, *dims] as the file takes them: of its type, in copies where its batch is fixed, in the shape of its own."""
    if interface.dtype in WHOLE:
        rows = np.rint(rows).clip(*WHOLE[interface.dtype])
    made = np.repeat(rows.astype(interface.dtype), interface.batch or 1, axis=0)
    return made if interface.entry is None else made.reshape(interface.entry)


def _scores_among(outputs: Sequence[onnx.ValueInfoProto]) -> str:
    """The only output, or the only one that may hold class scores. Raises ModelError where there is none, or several."""
    may = [o for o in outputs if not declared_fault(o.name, o)]
    may = [o for o in may if declared_type(o) not in QUANTISED] or may  # a label beside the scores may be a byte
    if len(may) > 1:  # a confidence beside the scores is none of them
        may = [o for o in may if not o.type.tensor_type.HasField("shape") or set(dims_of(o)[1:]) != {1}] or may
    if len(outputs) == 1 or len(may) == 1:
        return (may or outputs)[0].name
    listed = f"{len(outputs)} outputs ({', '.join(o.name for o in outputs[:8])})"
    if not may:
        raise ModelError(f"not an image classifier: none of its {listed} holds a score per class")
    raise ModelError(f"the model has {listed}: choose the class scores with --output-name")


def first_channels(graph: onnx.GraphProto, name: str) -> tuple[int, int] | None:
    """(axis of the channels in the input, their number), as the first convolution says; None where there is none.

    Followed are operators that work value by value, and a Transpose.
    """
    used, known = edit.consumers(graph), edit.constants(graph)
    axes = [0, 1, 2, 3]  # of the input, where they lie in the tensor that is looked at
    while len(readers := used.get(name, [])) == 1:
        (node,) = readers
        given = edit.attributes(node)
        if node.op_type == "Conv" and node.input[0] == name and (weight := known.get(node.input[1])) is not None:
            group = given.get("group", 1)
            return (axes[1], weight.dims[1] * int(group)) if len(weight.dims) == 4 else None  # type: ignore[call-overload]
        perm = given.get("perm")
        if node.op_type == "Transpose" and isinstance(perm, list) and sorted(perm) == [0, 1, 2, 3]:
            axes = [axes[i] for i in perm]
        elif node.op_type not in VALUE_BY_VALUE:
            return None
        name = node.output[0]
    return None


def scores_fault(output: str, shape: Sequence[object], dtype: str) -> str:
    """Why an output of that shape and type holds no class scores; "" where it may.

    shape: with the batch first, unless it is a vector; sizes that are not known are no integers.
    """
    said = f"output {output!r} of shape {['N' if not isinstance(d, int) else d for d in shape]}"
    if dtype not in (*SCORE_TYPES, *QUANTISED):
        return f"not class scores: {said} holds {dtype} numbers, as a label does"
    scores = list(shape[1:] if len(shape) > 1 else shape)
    if not scores:
        return f"not class scores: output {output!r} is a single number"
    known = [d for d in scores if isinstance(d, int)]
    if sum(d > 1 for d in known) > 1:
        return (
            f"not an image classifier: {said} has more than one axis besides the batch, as the boxes of a detector, a map "
            "or several heads have"
        )
    if len(known) == len(scores) and not math.prod(known):
        return f"not an image classifier: output {output!r} has no value per picture"
    return ""


def one_bare_score(output: str) -> str:
    """The fault of an output with one value for each picture that is not the plain value of a Sigmoid."""
    return (
        f"not an image classifier: output {output!r} has one value per picture and does not end in a plain Sigmoid, so that "
        "nothing says where yes begins (append a Sigmoid if the value is a logit)"
    )


def declared_fault(output: str, value: onnx.ValueInfoProto) -> str:
    """The same of an output as it is declared, or inferred; "" where no shape is."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return ""
    return scores_fault(output, dims_of(value), declared_type(value))


def declared_type(value: onnx.ValueInfoProto) -> str:
    """The name of a tensor's type; float32 where none is declared."""
    kind = value.type.tensor_type.elem_type
    if kind not in TensorProto.DataType.values():
        return f"type {kind}"
    name = TensorProto.DataType.Name(kind).lower() if kind else "float"
    return {"float": "float32", "double": "float64"}.get(name, name)


def _picture_batch(
    shape: list[int | None], name: str, layout: str, size: tuple[int, int] | None
) -> tuple[list[int | None], tuple[int, ...] | None]:
    """(shape with 4 dimensions, entry) of an input as declared."""
    if _is_flat(shape):
        return _unrolled(shape, name, layout, size)
    if len(shape) == 4:
        return shape, None
    if len(shape) == 3 and None not in shape:  # one picture, no batch
        return [1, *shape], tuple(d or 0 for d in shape)
    if len(shape) == 3 and shape[0] is None:  # grey pictures without a channel axis
        rows, columns = (d or asked for d, asked in zip(shape[1:], size or (None, None), strict=True))
        if rows is None or columns is None:
            raise ModelError(f"input {name!r} takes grey pictures of open size: say --input-size HEIGHT WIDTH")
        picture = (rows, columns, 1) if layout == "NHWC" else (1, rows, columns)
        return [None, *picture], (-1, rows, columns)
    raise ModelError(f"not an image classifier: input {name!r} has {len(shape)} dimensions, a picture batch has 4")


def _is_flat(shape: list[int | None]) -> bool:
    """Whether an input holds the values of a picture in one row; all its other axes but the batch are of size 1."""
    rest = sorted(d or 0 for d in shape[1:])
    flat = len(shape) in (3, 4) and shape[0] in (None, 1) and rest[:-1] == [1] * (len(shape) - 2) and rest[-1] > 3
    return flat or len(shape) == 2


def _unrolled(
    shape: list[int | None], name: str, layout: str, size: tuple[int, int] | None
) -> tuple[list[int | None], tuple[int, ...] | None]:
    if size is None:
        raise ModelError(
            f"not an image classifier: input {name!r} has {len(shape)} dimensions, a picture batch has 4 "
            "(say --input-size HEIGHT WIDTH if it takes flattened pictures)"
            if len(shape) == 2
            else f"input {name!r} of shape {shape} takes flattened pictures: say --input-size HEIGHT WIDTH"
        )
    values = max(d or 0 for d in shape[1:])
    channels, rest = divmod(values, size[0] * size[1])
    if rest or channels not in (1, 3):
        raise ModelError(f"{values or 'an open number of'} values are no picture of {size[0]} x {size[1]} pixels")
    picture = (*size, channels) if layout == "NHWC" else (channels, *size)
    return [shape[0], *picture], (-1, *(d or 0 for d in shape[1:]))


def _layout(shape: list[int | None], asked: str, first: tuple[int, int] | None) -> Layout:
    """The asked layout, or the one whose channel axis holds 1 or 3, or that the first convolution reads; NCHW where both."""
    if asked == "NCHW":
        return "NCHW"
    if asked == "NHWC":
        return "NHWC"
    if asked != "auto":
        raise ModelError(f"layout {asked!r} is not understood: use auto, NCHW or NHWC")
    if shape[1] in (1, 3):
        return "NCHW"
    if shape[3] in (1, 3):
        return "NHWC"
    if first is not None and first[0] in (1, 3) and shape[first[0]] in (None, first[1]):
        return "NCHW" if first[0] == 1 else "NHWC"
    if shape[1] is None or shape[3] is None:
        raise ModelError("the input leaves its layout open: say --layout NCHW or --layout NHWC")
    raise ModelError(f"not an image classifier: input shape {shape} has no axis of 1 or 3 channels")
