"""Is this installation fit to run: versions, the two wheels of onnxruntime, and providers that really run a node."""

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from onnx_shapprune.record.installation import Fact, InstallationRecord

# As in pyproject.toml.
FLOORS = {
    "numpy": "1.26",
    "onnx": "1.21",
    "click": "8.1",
    "pillow": "10",
    "pydantic": "2.7",
    "scipy": "1.11",
    "threadpoolctl": "3.5",
}
PYTHON_FLOOR, RUNTIME_FLOOR = "3.11", "1.27"
WHEELS = ("onnxruntime-gpu", "onnxruntime")


def examine_installation() -> InstallationRecord:
    """Look at everything; what is missing is a fact too."""
    facts = (_floor("python", platform.python_version(), PYTHON_FLOOR), *_packages(), *_runtime(), *_providers())
    return InstallationRecord(fit=all(f.outcome != "problem" for f in facts), facts=facts)


def _packages() -> Iterator[Fact]:
    for name, floor in FLOORS.items():
        found = _installed(name)
        yield (
            _floor(name, found, floor)
            if found
            else Fact(name=name, value="missing", outcome="problem", advice=f"pip install '{name}>={floor}'")
        )


def _runtime() -> Iterator[Fact]:
    """The wheel of onnxruntime: both install the same folder, so with two of them the last one wins."""
    found = {name: v for name in WHEELS if (v := _installed(name))}
    if len(found) == 2:
        yield Fact(
            name="onnxruntime",
            value=" and ".join(f"{n} {v}" for n, v in found.items()),
            outcome="problem",
            advice="two wheels share one folder: pip uninstall -y onnxruntime onnxruntime-gpu && "
            f"pip install 'onnxruntime-gpu>={RUNTIME_FLOOR}', or onnxruntime for the CPU",
        )
    elif found:
        ((name, number),) = found.items()
        yield _floor(name, number, RUNTIME_FLOOR)
        yield _wheel(name)
    else:
        advice = f"pip install 'onnxruntime>={RUNTIME_FLOOR}'"
        yield Fact(name="onnxruntime", value="missing", outcome="problem", advice=advice)


def _wheel(name: str) -> Fact:
    """Which of the two wheels is there, why, and how the other one is had."""
    if name == "onnxruntime-gpu":
        return Fact(
            name="wheel",
            value="onnxruntime-gpu, which pip takes by itself here: it runs on the CPU too",
            advice="a CPU alone needs 340 MB less: pip uninstall -y onnxruntime-gpu && "
            f"pip install 'onnxruntime>={RUNTIME_FLOOR}'",
            outcome="note",
        )
    return Fact(
        name="wheel",
        value="onnxruntime, for the CPU: the only one on macOS and other processors, elsewhere it was chosen",
        advice="for CUDA, on Linux and Windows: pip uninstall -y onnxruntime && pip install 'onnx-shapprune[cuda]'",
        outcome="note",
    )


def _providers() -> Iterator[Fact]:
    """Whether a node runs on the CPU and on CUDA; that CUDA does not run is no problem, --device auto takes the CPU."""
    try:
        from onnx_shapprune.runtime import cuda, session
    except Exception as error:  # a broken wheel raises all sorts
        advice = f"pip install --force-reinstall 'onnxruntime>={RUNTIME_FLOOR}'"
        yield Fact(name="onnxruntime", value=f"cannot be loaded: {error}", outcome="problem", advice=advice)
        return
    why = session.trial(session.Device())
    yield Fact(
        name=session.CPU,
        value=f"does not run a node: {why}" if why else "runs a node",
        outcome="problem" if why else "ok",
    )
    if session.CUDA not in session.available_providers():
        yield Fact(name=session.CUDA, value="not in this wheel of onnxruntime", outcome="note")
    elif why := session.trial(session.Device(provider=session.CUDA)):
        missing = ", ".join(cuda.missing_libraries())
        yield Fact(
            name=session.CUDA,
            value=f"does not run a node: {why}" + (f"; not found: {missing}" if missing else ""),
            outcome="note",
            advice="on a machine with a GPU: its driver, and pip install 'onnx-shapprune[cuda]'",
        )
    else:
        yield Fact(name=session.CUDA, value="runs a node")


def _floor(name: str, found: str, floor: str) -> Fact:
    if _numbers(found) >= _numbers(floor):
        return Fact(name=name, value=found)
    return Fact(
        name=name,
        value=f"{found}, older than {floor}",
        outcome="problem",
        advice=f"install Python {floor} or later" if name == "python" else f"pip install '{name}>={floor}'",
    )


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", text)[:3])
