"""Open onnxruntime sessions: the one place that decides provider, threads and session options.

Asked-for and absent CUDA is an error, never a silent fallback: onnxruntime itself only warns and then runs on the CPU.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from onnx_shapprune.errors import DeviceError, LimitError, ModelError, ShapPruneError
from onnx_shapprune.runtime.cores import usable_threads
from onnx_shapprune.runtime.cuda import DRIVER, loads, preload
from onnx_shapprune.runtime.weights import beside, filled, held, shared_array, size_of

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
# A constant generator in a hostile file can ask for gigabytes while the session is created; onnxruntime's default
# folding limit does not stop it.
FOLD_LIMIT_BYTES = 64 << 20
# The same for model-local functions, which onnxruntime writes out wherever they are called.
FUNCTION_LIMITS = {"session.function_expansion_node_limit": 50_000, "session.function_expansion_byte_limit": 256 << 20}
NO_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory", "out of memory")
MEMORY = 2 << 30
TOGETHER = 128 << 20  # bytes of weights up to which a model is serialised whole, which makes two copies of them

Array = NDArray[np.generic]

ort.set_default_logger_severity(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where graphs run: an onnxruntime provider name, the index of the CUDA device, threads (0 = all cores), and bytes
    that whoever runs graphs fits batches and kept values into.
    """

    provider: str = CPU
    index: int = 0
    threads: int = 0
    memory: int = MEMORY

    @property
    def label(self) -> str:
        return "cpu" if self.provider == CPU else f"cuda:{self.index}"

    @property
    def memory_type(self) -> str:
        """onnxruntime's word for where its values live."""
        return "cpu" if self.provider == CPU else "cuda"


def resolve_device(asked: str, *, threads: int = 0, memory: int = MEMORY) -> Device:
    """Turn "auto", "cpu", "cuda" or "cuda:N" into a Device that really runs a node.

    "auto" takes CUDA where a session opens on it and the CPU otherwise. Raises DeviceError when CUDA was asked for and
    cannot run, or when the word is not understood. threads: never more are used than there are cores for this process.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", asked)
    if not match:
        raise DeviceError(f"device {asked!r} is not understood: use auto, cpu, cuda or cuda:N")
    cpu = Device(threads=usable_threads(threads), memory=memory)
    if asked == "cpu":
        return cpu
    wanted = replace(cpu, provider=CUDA, index=int(match.group(1) or 0))
    if CUDA in available_providers() and not trial(wanted):
        return wanted
    if asked == "auto":
        return cpu
    raise DeviceError(
        f"device {asked!r} was asked for but CUDA cannot run here; check the driver, install onnx-shapprune[cuda], "
        "or use --device cpu"
    )


def available_providers() -> list[str]:
    """What the wheel of onnxruntime brings, whether it runs here or not."""
    return list(ort.get_available_providers())


def provider_list(device: Device) -> list[str | tuple[str, dict[str, str]]]:
    """Providers with options for `device`; the CPU stands behind CUDA for the few nodes that have no CUDA kernel."""
    if device.provider == CPU:
        return [CPU]
    options = {
        "device_id": str(device.index),
        # EXHAUSTIVE re-times per shape and may pick another algorithm next run; TF32 moves the ranking.
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
    }
    return [(CUDA, options), CPU]


def session_options(device: Device, *, optimize: bool, arena: bool = True) -> ort.SessionOptions:
    """Session options shared by every graph that the audit runs."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = device.threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    # mem_pattern plans for one batch size; runs here use several, and switching it off costs no time.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = arena
    # Threads that spin after a run take the cores from the next session: many small ones then run no faster than one thread.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Quantised graphs are run as they are written: some rewrites of Q/DQ pairs round otherwise as soon as a mask stands
    # between, and integer kernels saturate on x86 processors without VNNI.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.add_session_config_entry("session.x64quantprecision", "1")
    # ENABLE_ALL: without the NCHWc layout the CPU is 1.2 to 1.8 times slower.
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(FOLD_LIMIT_BYTES))
    for key, limit in FUNCTION_LIMITS.items():
        options.add_session_config_entry(key, str(limit))
    return options


@dataclass(frozen=True, slots=True)
class Resident:
    """A float32 array in the memory of the device; only `reshape` copies it to the host."""

    value: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape())

    @property
    def nbytes(self) -> int:
        return 4 * int(np.prod(self.shape))

    def reshape(self, *shape: int) -> Array:
        return np.asarray(self.value.numpy()).reshape(*shape)


class Session:
    """An open graph with named inputs and outputs. `outputs` are fetched in the order given at `run`.

    arena: keep the memory of a run for the next one, which small graphs gain from; of many large ones each keeps its own.
    weights: a model with the initializers that `model` only stands in for.
    """

    def __init__(
        self,
        model: onnx.ModelProto | bytes,
        device: Device,
        *,
        optimize: bool = True,
        arena: bool = True,
        weights: onnx.ModelProto | None = None,
    ) -> None:
        options = session_options(device, optimize=optimize, arena=arena)
        self._weights: list[ort.OrtValue] = []  # onnxruntime reads them where they are
        if not isinstance(model, bytes):
            model = self._payload(model, weights, device, options)
        try:
            # With its fallback on, onnxruntime prints to stdout and retries on the CPU.
            self._session = ort.InferenceSession(model, options, providers=provider_list(device), enable_fallback=0)
        except Exception as error:  # onnxruntime raises a dozen unrelated pybind classes
            raise _refusal(error, "open") from error
        self._device = device
        self.providers = tuple(self._session.get_providers())
        if self.providers[0] != device.provider:
            raise DeviceError(f"the graph was to run on {device.provider} but onnxruntime chose {self.providers[0]}")
        self.inputs = {i.name: i for i in self._session.get_inputs()}
        self.outputs = [o.name for o in self._session.get_outputs()]

    def _payload(
        self, model: onnx.ModelProto, weights: onnx.ModelProto | None, device: Device, options: ort.SessionOptions
    ) -> bytes:
        """The model as bytes; weights, where there are many, are handed over beside it."""
        values = held(model, weights)
        if sum(size_of(values.get(t.name, t)) for t in model.graph.initializer) <= TOGETHER:
            return bytes(filled(model, values).SerializeToString())
        self._weights = [ort.OrtValue.ortvalue_from_numpy(shared_array(t)) for t in values.values()]
        options.add_external_initializers(list(values), self._weights)
        if device.provider == CPU and _flat(model):
            # Told twice, and not to lay them out anew, onnxruntime makes no copy of its own.
            options.add_session_config_entry("session.disable_prepacking", "1")
            for name, value in zip(values, self._weights, strict=True):
                options.add_initializer(name, value)
        return bytes(beside(model, values).SerializeToString())

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[NDArray[np.float32]]:
        """Run once; arrays in `outputs` order (default: all graph outputs). Raises ModelError when the graph fails."""
        try:
            return list(self._session.run(outputs, dict(feeds)))
        except Exception as error:
            raise _refusal(error, "run") from error

    def run_resident(self, feeds: Mapping[str, Resident]) -> dict[str, Resident]:
        """Run once on values that stay where the graph runs; all graph outputs by name. Raises ModelError as `run`."""
        try:
            binding = self._session.io_binding()
            for name, value in feeds.items():
                binding.bind_ortvalue_input(name, value.value)
            for name in self.outputs:
                binding.bind_output(name, self._device.memory_type, self._device.index)
            self._session.run_with_iobinding(binding)
            return dict(zip(self.outputs, map(Resident, binding.get_outputs()), strict=True))
        except Exception as error:
            raise _refusal(error, "run") from error


def _flat(model: onnx.ModelProto) -> bool:
    """Whether a name says which tensor is meant: subgraphs may have their own of that name."""
    return not model.functions and not any(a.HasField("g") or a.graphs for n in model.graph.node for a in n.attribute)


def to_device(array: NDArray[np.float32] | NDArray[np.bool_], device: Device) -> Resident:
    """A copy of an array in the memory of the device."""
    return Resident(ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device.memory_type, device.index))


def _refusal(error: Exception, did: str) -> ShapPruneError:
    """What onnxruntime's error means: no memory proves nothing, everything else is the graph's fault."""
    text = f"onnxruntime cannot {did} the graph: {first_line(error)}"
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        return LimitError(f"out of memory: {text}")
    return ModelError(text)


def first_line(error: BaseException) -> str:
    """The first line of an error text, without control characters and at most 300 characters long."""
    text = str(error).strip().splitlines()
    return "".join(c if c.isprintable() else " " for c in (text[0] if text else type(error).__name__))[:300]


def trial(device: Device) -> str:
    """Why a one-node graph does not run on the device, "" where it does: the wheel lists CUDA even without a driver."""
    if device.provider == CUDA:
        if not loads(DRIVER):  # do not let onnxruntime print a page of warnings about it
            return "there is no driver"
        preload()
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "probe", [value], [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    try:
        (y,) = Session(model, device).run({"x": np.ones(1, np.float32)})
    except (DeviceError, ModelError) as error:
        return str(error)
    return "" if y[0] == -1 else f"it computes -1 x 1 = {y[0]}"
