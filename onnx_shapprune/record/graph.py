"""What a file says it is, and what was made of its graph: records of commands that run no model."""

from typing import Literal

from onnx_shapprune.record.parts import SCHEMA_VERSION, FileDigest, FindingPart, Part


class TensorPart(Part):
    """A graph input or output as declared: dimensions are sizes, symbols, or None where nothing is said."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


class LayerPart(Part):
    """A layer whose channels are units."""

    name: str
    op: str
    channels: int


class RefusedPart(Part):
    """A layer whose channels are no units, and why."""

    name: str
    op: str
    reason: str


class MaskPart(Part):
    """A mask input float32 [1 or N, *shape] of a masked graph, and the layer onto whose tensor it is multiplied."""

    input: str
    layer: str
    op: str
    tensor: str
    channels: int
    shape: tuple[int, ...]


class MaskRecord(Part):
    """A masked graph. model: the file that it was made of; input float32 [N, *input_shape] (N = 1 unless batch_free),
    output: logits [N, classes]; taken_off: operators behind the logits, last first.
    """

    schema_version: str = SCHEMA_VERSION
    tool: Literal["onnx-shapprune"] = "onnx-shapprune"
    model: FileDigest
    input: str
    input_shape: tuple[int, ...]
    layout: str
    output: str
    classes: int
    batch_free: bool
    taken_off: tuple[str, ...]
    masks: tuple[MaskPart, ...]


class InspectRecord(Part):
    """What a file says it is; nothing was run. readable: whether it is an image classifier that can be audited, else
    `reason` says why not. no_gradient: operator -> nodes on the way from the picture to the scores without a gradient
    rule, None where that could not be looked up; integer paths count, so it may list too many. way: of the picture to
    the scores, in words. parameters: None: refused.
    """

    schema_version: str = SCHEMA_VERSION
    tool: Literal["onnx-shapprune"] = "onnx-shapprune"
    readable: bool
    reason: str = ""
    model: FileDigest
    external: tuple[FileDigest, ...] = ()
    producer: str = ""
    ir_version: int
    opsets: dict[str, int]
    inputs: tuple[TensorPart, ...]
    outputs: tuple[TensorPart, ...]
    layout: Literal["NCHW", "NHWC"] | None = None
    classes: int | None = None
    parameters: int | None
    ops: dict[str, int]
    units: int = 0
    layers: tuple[LayerPart, ...] = ()
    refused: tuple[RefusedPart, ...] = ()
    no_gradient: dict[str, tuple[str, ...]] | None = None
    way: str = ""
    findings: tuple[FindingPart, ...] = ()
