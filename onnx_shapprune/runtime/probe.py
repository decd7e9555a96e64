"""Concrete shapes of every tensor, found by running the graph, and the test that two graphs agree.

Shape inference is not used: it trusts wrong value_info and stops at unknown ops. The un-optimised graph is run at two
batch sizes with every value exposed; a dimension that is equal in both runs is static.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.runtime.session import Array, Device, Session
from onnx_shapprune.runtime.weights import elsewhere, shell


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Shape and dtype of one tensor. `shape[i]` is None where the dimension depends on the batch size."""

    shape: tuple[int | None, ...]
    dtype: np.dtype[np.generic]

    @property
    def static(self) -> bool:
        return None not in self.shape


def expose(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """A copy of the model whose graph outputs are the original ones and `names`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    have = {o.name for o in copy.graph.output}
    # Type and shape are left out on purpose: onnxruntime infers them.
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names if n not in have)
    return copy


def run_exposed(
    model: onnx.ModelProto,
    feeds: Sequence[Mapping[str, Array]],
    device: Device,
    weights: onnx.ModelProto | None = None,
) -> Iterator[dict[str, Array]]:
    """Run the un-optimised graph on one after the other of `feeds`; every tensor that a top-level node makes, by name.

    weights: as of a Session.
    """
    made = [name for node in model.graph.node for name in node.output if name]
    if weights is None:
        model, weights = shell(model, elsewhere), model
    session = Session(expose(model, made), device, optimize=False, weights=weights)
    for each in feeds:
        made_of = zip(session.outputs, session.run(each), strict=True)
        yield {name: value for name, value in made_of if isinstance(value, np.ndarray)}


def probe(
    model: onnx.ModelProto,
    small: Mapping[str, Array],
    large: Mapping[str, Array],
    device: Device,
    weights: onnx.ModelProto | None = None,
) -> dict[str, TensorInfo]:
    """Shapes and dtypes of all inputs, initializers and node outputs.

    small, large: feeds at two batch sizes whose dimensions and products differ (2 and 3 for one batch dimension).
    weights: as of a Session. Raises ModelError when the graph does not run at one of them.
    """
    # Of the values themselves there is one set at a time: all activations of a few pictures are large.
    runs = map(_kinds, run_exposed(model, [small, large], device, weights))
    first, second = ({**run, **_kinds(feed)} for run, feed in zip(runs, (small, large), strict=True))
    infos = {
        name: TensorInfo(tuple(a if a == b else None for a, b in zip(shape, second[name][0], strict=True)), dtype)
        for name, (shape, dtype) in first.items()
        if name in second and len(shape) == len(second[name][0])
    }
    for tensor in model.graph.initializer:
        infos[tensor.name] = TensorInfo(tuple(tensor.dims), onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return infos


def _kinds(values: Mapping[str, Array]) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    """Shape and dtype by name."""
    return {name: (value.shape, value.dtype) for name, value in values.items()}


def largest_difference(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """max |a - b| divided by max(1, max |a|); infinity when shapes differ or a value is not finite."""
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.abs(a - b).max(initial=0.0) / max(1.0, np.abs(a).max(initial=0.0)))
