"""Every command in samples/*/README.md runs, and ends with the exit code that stands beside it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pages
import pytest

SAMPLES = sorted((pages.ROOT / "samples").glob("*/README.md"))
SMALL = ["--restarts", "1", "--permutations", "8", "--threads", "1"]
PROGRAMS = (["shapprune"], ["python", "-m", "onnx_shapprune"])


def calls(path: Path) -> list[tuple[list[str], int]]:
    """Arguments of every call of the program in a README, and the exit code that its comment promises (else 0)."""
    found = []
    for block in pages.blocks(path.read_text(encoding="utf-8"), "sh", "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for program in PROGRAMS:
                if words[: len(program)] == program:
                    code = re.search(r"# exits with (\d+)", line)
                    found.append((words[len(program) :], int(code[1]) if code else 0))
    return found


def folder(path: Path) -> Path:
    """A folder in which the repository's paths can be read, and results fall outside of it."""
    for name in ("onnx_shapprune", "samples"):
        (path / name).symlink_to(pages.ROOT / name, target_is_directory=True)
    return path


def call(arguments: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onnx_shapprune", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(pages.ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_there_are_commands_to_try():
    assert SAMPLES
    assert [c[0][0] for c in calls(pages.ROOT / "samples" / "fashion_mnist" / "README.md")] == [
        "inspect",
        "audit",
        "sanitize",
        "verify",
    ]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.parent.name)
def test_the_quick_commands(path, tmp_path):
    cwd = folder(tmp_path)
    for arguments, code in calls(path):
        if arguments[0] in ("inspect", "audit"):
            small = SMALL if arguments[0] == "audit" else []
            result = call([*arguments, *small], cwd=cwd)
            assert result.returncode == code, (arguments, result.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.parent.name)
def test_all_commands_as_they_stand(path, tmp_path):
    cwd = folder(tmp_path)
    for arguments, code in calls(path):
        result = call(arguments, cwd=cwd)
        assert result.returncode == code, (arguments, result.stdout[-500:], result.stderr)
