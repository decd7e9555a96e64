"""Say what a file is without running any of it: the look before an audit."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from onnx_shapprune.autodiff.engine import unsupported_ops
from onnx_shapprune.errors import HostileFileError, ModelError
from onnx_shapprune.graph import edit, facts
from onnx_shapprune.graph.classifier import Classifier, at_size, read_classifier
from onnx_shapprune.graph.file import DEFAULT_LIMITS, ModelFile, complete, read_model
from onnx_shapprune.graph.interface import Interface
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.graph.passes.choices import write_out_control_flow
from onnx_shapprune.graph.passes.dialects import write_as_standard
from onnx_shapprune.graph.passes.ends import SILENT, end_of
from onnx_shapprune.graph.passes.pairs import write_as_pairs
from onnx_shapprune.graph.passes.pools import round_down
from onnx_shapprune.graph.passes.upgrade import upgrade
from onnx_shapprune.graph.preflight import Hazard, refuse
from onnx_shapprune.graph.provenance.flow import Provenance
from onnx_shapprune.graph.provenance.oddities import oddities_of, provenance_of
from onnx_shapprune.graph.provenance.way import way
from onnx_shapprune.graph.staging import Stage
from onnx_shapprune.graph.units import Units
from onnx_shapprune.record.graph import InspectRecord, LayerPart, RefusedPart, TensorPart
from onnx_shapprune.record.parts import FileDigest, FindingPart
from onnx_shapprune.recording.findings import graph_parts, preflight_parts
from onnx_shapprune.report.text import plain


def inspect(
    model: Path | str,
    *,
    layout: str = "auto",
    output: str | None = None,
    size: tuple[int, int] | None = None,
    limits: FileLimits = DEFAULT_LIMITS,
    allow_root: Path | None = None,
) -> InspectRecord:
    """Read a file's interface, units, operators and oddities; no part of the graph runs and no session is opened.

    layout: "auto", "NCHW" or "NHWC"; output: which graph output holds the class scores, where there are several; size:
    height and width of pictures, where the file leaves them open or takes them flattened; limits, allow_root: as in
    InputOptions. Raises ModelError when the file cannot be read as ONNX. A readable ONNX file that is no image classifier,
    or that is refused for what stands in it, gives a record with `readable` False and the reason.
    """
    path = Path(model)
    with Stage(path.parent, allow_root) as stage:
        file = read_model(path, stage, limits)
        try:
            refuse(file.hazards)
            file = complete(file, stage, limits)
        except HostileFileError as error:
            return _refused(
                replace(file, hazards=tuple(Hazard(*h) for h in {*file.hazards, *error.hazards})), str(error)
            )
        except ModelError as error:
            if not file.hazards:
                raise
            return _refused(file, str(error))
    try:
        return _record(file, read_classifier(file.loaded, limits, layout=layout, output=output, size=size))
    except HostileFileError as error:
        return _refused(replace(file, hazards=tuple(Hazard(*h) for h in error.hazards)), str(error))
    except ValidationError:  # protobuf hands names that are no UTF-8 over as bytes
        raise ModelError(f"the file holds names that are not UTF-8 text: {file.path}") from None


def _refused(file: ModelFile, reason: str) -> InspectRecord:
    """What can be said of a file without following anything in it."""
    return InspectRecord(
        readable=False, reason=reason, **_declared(file), parameters=None, findings=preflight_parts(file.hazards)
    )


def _declared(file: ModelFile) -> dict[str, Any]:
    proto = file.proto
    return {
        "model": FileDigest(name=plain(file.path.name), size=file.size, sha256=file.sha256),
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
        "ir_version": proto.ir_version,
        "opsets": facts.opsets(proto),
        "inputs": tuple(TensorPart(name=d.name, type=d.type, shape=d.dims) for d in facts.declared_inputs(proto)),
        "outputs": tuple(TensorPart(name=d.name, type=d.type, shape=d.dims) for d in facts.declared_outputs(proto)),
        "ops": facts.operators(proto),
    }


def _record(file: ModelFile, found: Classifier) -> InspectRecord:
    interface, units, reason = found.interface, found.units, found.reason
    no_gradient, followed = None, None
    if interface is not None:
        try:
            followed = provenance_of(file.proto, interface)
            no_gradient = _no_gradient(file, interface)
        except ModelError as error:
            reason = reason or str(error)
    return InspectRecord(
        readable=not reason,
        reason=reason,
        **_declared(file),
        external=tuple(FileDigest(name=e.location, size=e.size, sha256=e.sha256) for e in file.external),
        layout=interface.layout if interface else None,
        classes=found.classes,
        parameters=facts.parameters(file.proto),
        units=units.total if units else 0,
        layers=tuple(LayerPart(name=u.name, op=u.op, channels=u.channels) for u in units.layers) if units else (),
        refused=tuple(RefusedPart(name=r.name, op=r.op, reason=r.reason) for r in units.refused) if units else (),
        no_gradient=no_gradient,
        way=way(followed) if followed else "",
        findings=_findings(file, interface, units, no_gradient, followed),
    )


def _no_gradient(file: ModelFile, interface: Interface) -> dict[str, tuple[str, ...]]:
    """Operator -> nodes without a rule, looked up where the audit looks: on a copy of a newer opset."""
    copy = edit.inlined(at_size(file.loaded, interface))
    write_as_pairs(copy.graph)
    upgrade(copy)
    write_as_standard(copy)
    round_down(copy)
    write_out_control_flow(copy)
    found: dict[str, list[str]] = {}
    for op, node in unsupported_ops(copy, interface.output, [interface.input]):
        found.setdefault(op, []).append(node)
    return {op: tuple(nodes) for op, nodes in sorted(found.items())}


def _findings(
    file: ModelFile,
    interface: Interface | None,
    units: Units | None,
    no_gradient: Mapping[str, tuple[str, ...]] | None,
    followed: Provenance | None,
) -> tuple[FindingPart, ...]:
    notes: list[str] = []
    warnings: list[str] = []
    proto = file.proto
    if len(proto.graph.output) > 1:
        read = f", taken to be {interface.output!r}" if interface is not None else ""
        notes.append(f"{len(proto.graph.output)} outputs: --output-name says which one holds the class scores{read}")
    if interface is not None:
        if interface.batch is not None:
            notes.append(f"the batch size is fixed at {interface.batch}: the audit frees it on its working copy")
        if interface.height is None or interface.width is None:
            warnings.append("the picture size is left open in the file: an audit needs --input-size HEIGHT WIDTH")
        end = end_of(file.loaded.graph, interface.output)
        if interface.one_score:
            notes.append(
                "one score per picture: class 1 where it is above 0.5, class 0 elsewhere; the audit works on two logits"
            )
        elif end is not None and end.op_type not in SILENT:
            notes.append(f"ends in {end.op_type}: the audit works on the logits before it")
    if facts.has_half(proto) or (interface is not None and interface.dtype == "float16"):
        notes.append("fp16 weights: the audit computes in fp32 and writes fp16 back")
    ops = facts.operators(proto)
    if pairs := sorted(facts.ROUNDING.intersection(op.rsplit("::", 1)[-1] for op in ops)):
        notes.append(f"quantised ({', '.join(pairs)}): gradients go straight through the rounding")
    if integer := facts.integer_operators(proto):
        warnings.append(
            f"quantised ({', '.join(integer)}): units and gradients cannot be had behind integer arithmetic"
        )
    left = ops if no_gradient is None else no_gradient  # what sizes decide is written out
    if flow := sorted(facts.CONTROL_FLOW.intersection(left)):
        warnings.append(f"control flow ({', '.join(flow)}): it is neither differentiated nor bounded")
    if proto.functions:
        notes.append(f"{len(proto.functions)} local functions: the audit works on a copy in which they are written out")
    if file.external:
        notes.append(f"weights in {len(file.external)} files beside the model")
    if units is not None and not units.layers:
        warnings.append("no layer has units that can be switched off: this model can be audited but not repaired")
    if no_gradient:
        listed = ", ".join(no_gradient)
        warnings.append(f"no gradient rule for {listed}: the trigger search cannot differentiate this model")
    found = [FindingPart(level="warning", text=text) for text in warnings]
    found += [FindingPart(level="note", text=text) for text in notes]
    odd = () if followed is None else graph_parts(oddities_of(followed, [o.name for o in proto.graph.output]))
    return (*preflight_parts(file.hazards), *odd, *found)
