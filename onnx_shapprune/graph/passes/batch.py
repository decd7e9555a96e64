"""Free a fixed batch dimension, and prove that the freed graph treats pictures independently."""

from dataclasses import replace

import numpy as np
import onnx
from onnx import helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.agreement import TOLERANCE
from onnx_shapprune.graph.passes.contract import Pass, Work
from onnx_shapprune.graph.passes.plain import ONE_INPUT, ONE_OUTPUT
from onnx_shapprune.runtime.probe import largest_difference, run_exposed
from onnx_shapprune.runtime.session import Device, Session


def free_batch(
    model: onnx.ModelProto, input_name: str, shape: tuple[int, ...], device: Device, batch: int = 1
) -> tuple[onnx.ModelProto, bool]:
    """The model itself where it already batches, a rewritten copy where that helps, else (model, False).

    Batching means: a run of three pictures equals three runs of one. Where it cannot be had, callers loop over
    pictures, which is slower and always right. batch: the one that the file declares, whose shapes are tried to be opened
    where it takes no other. Raises ModelError when not even one picture runs.
    """
    pictures = np.random.default_rng(1).random((3, *shape), np.float32)
    single = Session(model, device, optimize=False)
    try:
        rows = [single.run({input_name: row[None]})[0] for row in pictures]
    except ModelError as error:
        if batch == 1:
            raise
        try:
            freed = without_batch_constants(model, {input_name: np.repeat(pictures[:1], batch, axis=0)}, device)
            return free_batch(freed, input_name, shape, device)
        except ModelError:
            raise ModelError(
                f"the file takes {batch} pictures at a time and cannot be opened for one: export it with a free batch, or "
                f"with one of 1 ({error})"
            ) from None
    if not isinstance(rows[0], np.ndarray) or not np.issubdtype(rows[0].dtype, np.floating):
        raise ModelError(
            "not an image classifier: the output is no tensor of floating-point scores, nor of bytes that one stored step "
            "of a QuantizeLinear makes"
        )
    if np.ndim(rows[0]) == 0:
        return model, False
    if np.ndim(rows[0]) > 1 and len(rows[0]) > 1:
        raise ModelError(
            f"one picture gets {len(rows[0])} rows of scores: what it is told depends on its place in a batch"
        )
    want = np.concatenate(rows)
    for rewrite in (False, True):
        freed, session = model, single
        try:
            if rewrite:
                freed = without_batch_constants(model, {input_name: pictures[:1]}, device)
                session = Session(freed, device, optimize=False)
            (got,) = session.run({input_name: pictures})
        except ModelError:
            continue
        if largest_difference(want, np.asarray(got)) <= TOLERANCE["float32"]:
            return freed, True
    return model, False


def without_batch_constants(model: onnx.ModelProto, fed: dict[str, edit.Array], device: Device) -> onnx.ModelProto:
    """A copy in which shapes that an exporter froze leave the first dimension open. fed: pictures as many as it was frozen
    at.
    """
    (values,) = run_exposed(model, [fed], device)
    copy = edit.copy_of(model)
    graph = copy.graph
    constants = {name: edit.array_of(tensor) for name, tensor in edit.constants(graph).items()}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants and node.output[0] in values:
            # Also where the first dimension is not 1: heads and windows are often merged into the batch.
            resolved = np.asarray(values[node.output[0]].shape, np.int64)
            if resolved.all() and len(resolved):
                resolved[0] = -1
                node.input[1] = _constant(graph, f"{node.output[0]}__shape", resolved)
        elif node.op_type == "Concat":
            for i, name in enumerate(node.input):
                if name in constants and constants[name].shape[:1] == (1,) and constants[name].ndim > 1:
                    node.input[i] = _expanded(
                        graph, nodes, name, constants[name].ndim, next(iter(fed)), f"{node.output[0]}__{i}"
                    )
        nodes.append(node)
    edit.keep_nodes(graph, nodes)
    return copy


def _constant(graph: onnx.GraphProto, name: str, array: edit.Array) -> str:
    graph.initializer.append(edit.tensor_of(array, name))
    return name


def _expanded(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], name: str, rank: int, input_name: str, prefix: str
) -> str:
    """A constant such as a class token, repeated once per picture."""
    size, full, out = f"{prefix}_n", f"{prefix}_shape", f"{prefix}_expanded"
    ones = _constant(graph, f"{prefix}_ones", np.ones(rank - 1, np.int64))
    nodes.append(helper.make_node("Shape", [input_name], [size], start=0, end=1))
    nodes.append(helper.make_node("Concat", [size, ones], [full], axis=0))
    nodes.append(helper.make_node("Expand", [name, full], [out]))
    return out


def _freed(work: Work) -> Work:
    model, free = free_batch(work.model, work.input, work.shape, work.device, work.interface.batch or 1)
    return replace(work, model=model, batch_free=free)


BATCH = Pass("batch", _freed, (ONE_INPUT, ONE_OUTPUT), (ONE_INPUT, ONE_OUTPUT))
