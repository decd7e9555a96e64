"""Which input takes the picture, which output gives the classes, and in which layout: read from the graph alone."""

from dataclasses import dataclass
from typing import Literal

import onnx

from onnx_shapprune.errors import ModelError

Layout = Literal["NCHW", "NHWC"]
PICTURE_TYPES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}


@dataclass(frozen=True, slots=True)
class Interface:
    """How pictures enter and scores leave.

    input, output: tensor names. dims: shape of a picture in `layout`, None where the file and the caller leave it open.
    layout: "NCHW" or "NHWC". channels, height, width: None where they are open. batch: the declared fixed batch size,
    or None where it is free. dtype: "float32" or "float16". entry: shape in which the file itself takes pictures, -1 for
    the batch, where that is another than [N, *dims]: flattened, or without a batch dimension.
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
        raise ModelError(f"not an image classifier: input {inputs[0].name!r} is no float32 or float16 tensor")
    shape = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim]
    shape, entry = _picture_batch(shape, inputs[0].name, layout, size)
    names = [o.name for o in graph.output]
    if not names:
        raise ModelError("not an image classifier: the model has no outputs")
    if output is None and len(names) > 1:
        raise ModelError(f"the model has {len(names)} outputs ({', '.join(names[:8])}): choose the class scores")
    if output is not None and output not in names:
        raise ModelError(f"the model has no output {output!r}; it has {', '.join(names[:8])}")
    result = next(o for o in graph.output if o.name == (output or names[0]))
    if result.type.WhichOneof("value") not in (None, "tensor_type"):
        raise ModelError(f"not an image classifier: output {result.name!r} is no tensor")
    chosen = _layout(shape, layout)
    channel = 1 if chosen == "NCHW" else 3
    height, width = (2, 3) if chosen == "NCHW" else (1, 2)
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
        output=output or names[0],
        dims=tuple(shape[1:]),
        layout=chosen,
        channels=shape[channel],
        height=shape[height],
        width=shape[width],
        batch=shape[0],
        dtype=PICTURE_TYPES[tensor.elem_type],
        entry=entry,
    )


def _picture_batch(
    shape: list[int | None], name: str, layout: str, size: tuple[int, int] | None
) -> tuple[list[int | None], tuple[int, ...] | None]:
    """(shape with 4 dimensions, entry) of an input as declared."""
    if len(shape) == 4:
        return shape, None
    if len(shape) == 3 and None not in shape:  # one picture, no batch
        return [1, *shape], tuple(d or 0 for d in shape)
    if len(shape) == 2 and size is not None:
        values = shape[1] or 0
        channels, rest = divmod(values, size[0] * size[1])
        if rest or channels not in (1, 3):
            raise ModelError(f"{values or 'an open number of'} values are no picture of {size[0]} x {size[1]} pixels")
        picture = (*size, channels) if layout == "NHWC" else (channels, *size)
        return [shape[0], *picture], (-1, values)
    if len(shape) == 2:
        raise ModelError(
            f"not an image classifier: input {name!r} has 2 dimensions, a picture batch has 4 "
            "(say --input-size HEIGHT WIDTH if it takes flattened pictures)"
        )
    raise ModelError(f"not an image classifier: input {name!r} has {len(shape)} dimensions, a picture batch has 4")


def _layout(shape: list[int | None], asked: str) -> Layout:
    """The asked layout, or the one whose channel axis holds 1 or 3; NCHW where both do."""
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
    if shape[1] is None or shape[3] is None:
        raise ModelError("the input leaves its layout open: say --layout NCHW or --layout NHWC")
    raise ModelError(f"not an image classifier: input shape {shape} has no axis of 1 or 3 channels")
