"""Imports point one way, each outside library has its owners, and modules stay readable."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "onnx_shapprune"
ROOT = Path(__file__).parents[1] / PACKAGE
ORDER = [
    "version", "errors", "files", "runtime", "graph", "autodiff", "pictures", "settings", "case", "invert", "detect",
    "game", "shapley", "prune", "record", "gate", "report", "recording", "commands", "isolation", "fleet", "sample", "cli",
    "__init__", "__main__",
]  # fmt: skip
OWNERS = {"onnx": {"runtime", "graph", "autodiff"}, "onnxruntime": {"runtime"}, "click": {"cli"}}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc", "types", "core"}
FORBIDDEN_IMPORTS = {"torch", "tensorflow", "sklearn"}
MAX_LINES = 400
RULE_TABLES = {("autodiff", "rules")}

FILES = sorted(ROOT.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(tree: ast.AST, path: Path) -> Iterator[str]:
    """Dotted names of all imported modules; `from a import b` yields a and a.b."""
    package = [PACKAGE, *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(p for p in (stem, node.module) if p)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def for_types_only(tree: ast.AST, path: Path) -> set[str]:
    """Names imported under `if TYPE_CHECKING:` and nowhere else: an annotation may name what a module never loads."""
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    inside = [name for block in blocks for node in block.body for name in imported(node, path)]
    everywhere = list(imported(tree, path))
    return {name for name in inside if everywhere.count(name) == inside.count(name)}


def violations(source: str, path: Path) -> list[str]:
    tree = ast.parse(source)
    part, found, typing_only = part_of(path), [], for_types_only(tree, path)
    for name in imported(tree, path):
        top, *rest = name.split(".")
        if top in FORBIDDEN_IMPORTS:
            found.append(f"{path.name} imports {top}")
        if top in OWNERS and part not in OWNERS[top] and name not in typing_only:
            found.append(f"{path.name} imports {top}, which belongs to {sorted(OWNERS[top])}")
        if top == PACKAGE and rest and rest[0] in ORDER and ORDER.index(rest[0]) > ORDER.index(part):
            found.append(f"{path.name} imports {rest[0]}, which comes after {part}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_module(path):
    assert part_of(path) in ORDER, "a new part needs a place in the import order"
    assert not {p.removesuffix(".py") for p in path.relative_to(ROOT).parts} & FORBIDDEN_NAMES
    source = path.read_text()
    assert not violations(source, path)
    if path.relative_to(ROOT).parts[:2] not in RULE_TABLES:
        assert len(source.splitlines()) <= MAX_LINES


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("shapley/x.py", "import onnx"),
        ("shapley/x.py", "from onnx import helper"),
        ("graph/x.py", "import onnxruntime as ort"),
        ("report/x.py", "import click"),
        ("graph/x.py", "from onnx_shapprune.autodiff.engine import backward"),
        ("graph/x.py", "from onnx_shapprune import shapley"),
        ("graph/x.py", "from ..autodiff import engine"),
        ("graph/x.py", "def f():\n    import onnx_shapprune.gate"),
        ("gate.py", "from onnx_shapprune.commands.audit import audit"),
        ("prune/x.py", "from onnx_shapprune import recording"),
        ("record/x.py", "from onnx_shapprune.recording.assemble import Draft"),
        ("case/x.py", "from onnx_shapprune.invert.trigger import Trigger"),
        ("commands/x.py", "from onnx_shapprune.isolation.run import isolated"),
        ("fleet/x.py", "from onnx_shapprune.cli import main"),
        ("settings.py", "from onnx_shapprune.invert.search import SearchSettings"),
        ("cli/x.py", "import torch"),
        ("prune/x.py", "if TYPE_CHECKING:\n    import onnx\nimport onnx"),
        ("prune/x.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import onnx"),
        ("prune/x.py", "if TYPE_CHECKING:\n    from onnx_shapprune.commands.audit import audit"),
    ],
)
def test_the_checker_can_fail(place, source):
    assert violations(source, ROOT / place)


def test_the_checker_allows_what_it_should():
    assert not violations("import onnx\nfrom onnx_shapprune.errors import ModelError", ROOT / "graph" / "x.py")
    assert not violations("if TYPE_CHECKING:\n    import onnx", ROOT / "prune" / "x.py")
    assert not violations("from onnx_shapprune import gate, report\nimport click", ROOT / "cli" / "x.py")
