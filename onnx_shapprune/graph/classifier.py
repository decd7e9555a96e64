"""What a file is: one reading that inspect, mask, audit and whoever else asks share, so that they give one answer.

Nothing of the graph runs. What can be told only by running it, such as sizes that shape inference cannot follow, is
asked again with the same words when the working copy is made.
"""

import math
from dataclasses import dataclass, replace

import onnx

from onnx_shapprune.errors import HostileFileError, ModelError
from onnx_shapprune.graph import edit, facts
from onnx_shapprune.graph.interface import Interface, declared_fault, find_interface, one_bare_score
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.graph.passes.binary import final_sigmoid
from onnx_shapprune.graph.passes.pairs import write_as_pairs
from onnx_shapprune.graph.preflight import Hazard
from onnx_shapprune.graph.sizes import Size, dims_of, inferred, inferred_shapes, known_sizes
from onnx_shapprune.graph.units import Units, find_units
from onnx_shapprune.runtime.weights import elsewhere, shell

MAX_INPUT = 1 << 26  # values


@dataclass(frozen=True, slots=True)
class Classifier:
    """What was found. interface, units: None where the file has not the input and output of a classifier. classes: how many
    its output tells apart, two where one score says yes or no, None where the graph alone does not say. reason: why it is
    none, "" where it may be one.
    """

    interface: Interface | None
    units: Units | None
    classes: int | None
    reason: str


def read_classifier(
    model: onnx.ModelProto,
    limits: FileLimits,
    *,
    layout: str = "auto",
    output: str | None = None,
    size: tuple[int, int] | None = None,
) -> Classifier:
    """Read what a model that passed the preflight is; layout, output, size: as in `find_interface`.

    Raises HostileFileError where a loop turns out to be endless once the sizes are known.
    """
    try:
        interface = find_interface(model, layout=layout, output=output, size=size)
    except ModelError as error:
        return Classifier(None, None, None, str(error))
    reason = _too_large(interface)
    sized = at_size(model, interface)
    known = inferred(sized)
    reason = reason or _loops(sized, interface, limits)
    fault = _scores(model, interface, known.get(interface.output))
    reason = reason or fault
    try:
        units = find_units(model, interface.output)
    except ModelError as error:
        return Classifier(interface, None, None, reason or str(error))
    if fault:
        return Classifier(interface, units, None, reason)
    classes = _classes(known.get(interface.output), interface) or facts.class_count(model, interface.output, units)
    if classes != 1:
        return Classifier(interface, units, classes, reason)
    if not _ends_in_sigmoid(sized, interface):
        return Classifier(interface, units, None, reason or one_bare_score(interface.output))
    return Classifier(replace(interface, one_score=True), units, 2, reason)


def at_size(model: onnx.ModelProto, interface: Interface) -> onnx.ModelProto:
    """A copy without its weights whose input has the sizes that are known, and a free batch where the file has one."""
    light = shell(model, elsewhere)
    entry: tuple[int | None, ...] = interface.entry or (interface.batch or -1, *interface.dims)
    dims: list[Size] = ["N" if d == -1 else d for d in entry]
    for value in light.graph.input:
        if value.name == interface.input:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, dims))
    return light


def _too_large(interface: Interface) -> str:
    values = math.prod(d or 1 for d in interface.dims) * (interface.batch or 1)
    if values <= MAX_INPUT:
        return ""
    return (
        f"the model takes inputs of {[interface.batch or 'N', *interface.dims]}: more than {MAX_INPUT:,} values are "
        "no pictures"
    )


def _loops(sized: onnx.ModelProto, interface: Interface, limits: FileLimits) -> str:
    """Bound the loops that count sizes, which the preflight let pass. Where sizes are open they are not run."""
    loops = [
        n for n in sized.graph.node if n.op_type == "Loop" and n.domain in edit.DEFAULT_DOMAIN and any(n.input[:1])
    ]
    if not loops:
        return ""
    known = known_sizes(sized.graph, inferred_shapes(sized))
    for node in loops:
        found = known.get(node.input[0])
        count = None if found is None or found.size != 1 else found.reshape(-1)[0]
        name = node.name or node.output[0]
        if count is None and None in interface.dims:
            return f"Loop {name!r} counts a size that the file leaves open: say --input-size HEIGHT WIDTH"
        if count is None:
            return f"Loop {name!r} counts a size that cannot be told before the graph runs"
        if count > limits.trips:
            raise HostileFileError(
                [Hazard("OSP006", f"Loop {name!r} runs {count:,} times, more than {limits.trips:,} (limit trips)")]
            )
    return ""


def _scores(model: onnx.ModelProto, interface: Interface, found: onnx.ValueInfoProto | None) -> str:
    """What shape inference says of the output, else what the file does."""
    value = found or next(o for o in model.graph.output if o.name == interface.output)
    return declared_fault(interface.output, value)


def _ends_in_sigmoid(sized: onnx.ModelProto, interface: Interface) -> bool:
    """Whether the output gives the values of a Sigmoid, as the working copy will have it."""
    try:
        copy = edit.inlined(sized)
        write_as_pairs(copy.graph)
    except ModelError:
        return False
    return final_sigmoid(copy.graph, interface.output) is not None


def _classes(value: onnx.ValueInfoProto | None, interface: Interface) -> int | None:
    """Scores of each picture. A vector has one of each, but for a file that takes a single picture: it has all of them."""
    if value is None or not value.type.tensor_type.HasField("shape"):
        return None
    dims = dims_of(value)
    if len(dims) == 1 and interface.batch != 1:
        return 1
    sizes = [d for d in (dims[1:] if len(dims) > 1 else dims) if isinstance(d, int)]
    return math.prod(sizes) if sizes and len(sizes) >= len(dims) - 1 else None
