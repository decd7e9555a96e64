"""shapprune docs: every page can be read where the package is, and travels with its wheel."""

import tomllib
from pathlib import Path

import pytest
from invocations import only_line, run

import onnx_shapprune
from onnx_shapprune.cli.docs import START, pages

FOLDER = Path(onnx_shapprune.__file__).parent / "docs" / "pages"


def test_all_pages_are_listed_with_what_they_answer(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    result = run("docs")
    assert (result.exit_code, result.stderr) == (0, "")
    listed = [line.split() for line in result.stdout.splitlines() if line.startswith("  ") and line.strip()]
    assert [words[0] for words in listed] == list(pages())
    assert sorted([*pages(), START]) == sorted(p.stem for p in FOLDER.glob("*.md"))
    assert all(line.endswith("?") for line in pages().values())


def test_a_narrow_terminal_wraps_and_hides_nothing(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    result = run("docs")
    assert all(len(line) <= 60 for line in result.stdout.splitlines())
    assert "estimator?" in result.stdout.split()


@pytest.mark.parametrize("name", [START, *pages()])
def test_a_page_is_printed_as_it_was_written(name):
    result = run("docs", name)
    assert result.exit_code == 0
    assert result.stdout == (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert all(char.isprintable() or char == "\n" for char in result.stdout)


@pytest.mark.parametrize(("name", "hint"), [("verdict", "; did you mean verdicts?"), ("../mkdocs", ""), ("", "")])
def test_an_unknown_page_is_one_line(name, hint):
    assert only_line(run("docs", name)).startswith(f"error: no page {name!r}{hint}; shapprune docs lists them")


def test_nothing_keeps_the_pages_out_of_the_wheel():
    """hatchling takes every file of the package that git does not ignore."""
    root = FOLDER.parents[2]
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build == {"targets": {"wheel": {"packages": ["onnx_shapprune"]}}}
    ignored = (root / ".gitignore").read_text().split()
    parts = {part for p in FOLDER.rglob("*") for part in p.relative_to(root).parts}
    assert not {pattern.strip("/") for pattern in ignored} & parts
