"""Starting is quick, and both ways to start are the same program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import onnx_shapprune
from onnx_shapprune import errors, settings
from onnx_shapprune.commands.table import COMMANDS


def python(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False)


def test_import_does_not_load_the_runtime():
    code = "import onnx_shapprune, sys; print(sorted({'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    assert python("-c", code).stdout == "[]\n"


def test_the_public_names_are_the_commands():
    for name in ("audit", "sanitize", "verify", "values", "inspect", "mask"):
        assert getattr(onnx_shapprune, name) is COMMANDS[name].load()
    for name in ("InputOptions", "RunOptions"):
        assert getattr(onnx_shapprune, name) is getattr(settings, name)
    every = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert {n for n in onnx_shapprune.__all__ if n.endswith("Error")} == {*every}
    assert all(getattr(onnx_shapprune, name) is getattr(errors, name) for name in every)
    assert all(callable(getattr(onnx_shapprune, name)) for name in ("audit_batch", "gate_record", "render_report"))
    assert {*onnx_shapprune.__all__} <= {*dir(onnx_shapprune)}
    assert callable(onnx_shapprune.inspect)
    with pytest.raises(AttributeError, match="nonsense"):
        onnx_shapprune.nonsense  # noqa: B018


@pytest.mark.parametrize("name", ["numpy", "onnx", "click", "typing", "json", "dataclasses", "pydantic", "tomllib"])
def test_a_file_beside_a_model_is_not_what_is_imported(tmp_path, name):
    """`python -m` puts the current folder first on the path."""
    (tmp_path / f"{name}.py").write_text("print('EVIL')\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(onnx_shapprune.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "onnx_shapprune", "inspect", "none.onnx"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "EVIL" not in done.stdout + done.stderr
    assert (done.returncode, done.stderr) == (2, "error: model file not found: none.onnx\n")


def test_module_and_version():
    done = python("-m", "onnx_shapprune", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"shapprune, version {onnx_shapprune.__version__}\n", "")
