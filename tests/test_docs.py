"""What README.md lists is what the code has; what it tells a reader to type is understood."""

import inspect
import re
import shlex
import subprocess
import tomllib
from itertools import takewhile
from pathlib import Path

import click
import numpy as np
import pytest
import readme
from record_samples import audit_record

import onnx_shapprune
from onnx_shapprune.cli import demo, exits, shapprune
from onnx_shapprune.commands import repair
from onnx_shapprune.commands.values import ChannelValues
from onnx_shapprune.fleet import blocks
from onnx_shapprune.gate.policy import load_policy
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.settings import InputOptions, RunOptions
from onnx_shapprune.shapley.exact import exact_estimate

TEXT = readme.README.read_text(encoding="utf-8")
PACKAGE = Path(onnx_shapprune.__file__).parent


def commands(block: str) -> list[list[str]]:
    """Arguments of every shapprune call in a shell block."""
    lines = (shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines())
    return [[*takewhile(lambda word: word != ">", line[1:])] for line in lines if line[:1] == ["shapprune"]]


def rows(text: str, header: str) -> list[list[str]]:
    """Cells of the table whose first header cell is `header`."""
    table = re.search(rf"^\| {header} \|.*?\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table, header
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()]


def refused(arguments: list[str]) -> str:
    """Why the program would not take these arguments, "" if it would."""
    name, *rest = arguments
    if name not in shapprune.commands:
        return f"no command {name}"
    try:
        shapprune.commands[name].make_context(f"shapprune {name}", rest)
    except click.ClickException as error:
        return error.format_message()
    return ""


@pytest.mark.parametrize("name", readme.PARTS)
def test_a_generated_part_is_up_to_date(name):
    assert readme.part(TEXT, name) == readme.PARTS[name](), "run python -m tests.readme"


def test_an_outdated_part_is_noticed_and_rewritten():
    spoilt = TEXT.replace("| straight through the rounding |", "| straight |").replace(
        "Usage: shapprune audit", "Usage: audit"
    )
    assert spoilt != TEXT
    assert {n for n in readme.PARTS if readme.part(spoilt, n) != readme.PARTS[n]()} == set(readme.PARTS)
    assert readme.rewritten(spoilt) == TEXT


def test_the_map_names_every_part_of_the_package_and_nothing_else():
    (block,) = readme.blocks(readme.part(TEXT, "map"), "text")
    named = [line.split()[0] for line in block.splitlines()[1:]]
    folders = {f"{p.parent.relative_to(PACKAGE)}/" for p in PACKAGE.rglob("__init__.py") if p.parent != PACKAGE}
    assert len(named) == len(set(named))
    assert set(named) == folders | {p.name for p in PACKAGE.glob("*.py")}


def test_commands_in_shell_blocks_are_understood():
    found = [c for block in readme.blocks(TEXT, "sh") for c in commands(block)]
    assert {c[0] for c in found} == set(shapprune.commands) - {"demo"}
    assert [(c, why) for c in found if (why := refused(c))] == []


def test_a_wrong_command_would_be_noticed():
    assert refused(["audit", "model.onnx", "--data", "pictures/", "--no-such-option"])
    assert refused(["audit", "model.onnx"])
    assert refused(["repair", "model.onnx"])


def test_preprocessing_settings_are_understood():
    settings = [shlex.split(cell.strip("`")) for _, cell in rows(TEXT, "the model expects") if cell.startswith("`")]
    assert len(settings) == 3
    assert not any(refused(["audit", "m.onnx", "--data", "p", *options]) for options in settings)


def test_the_python_example_runs(monkeypatch, capsys):
    taken = {}

    def sanitize(model, data, *, output, inputs, run):
        taken.update(inputs=inputs, run=run)
        return audit_record()

    monkeypatch.setattr(repair, "sanitize", sanitize)
    example, _ = readme.blocks(TEXT, "python")
    exec(compile(example, "README.md", "exec"), {})
    assert isinstance(taken["inputs"], InputOptions)
    assert isinstance(taken["run"], RunOptions)
    assert capsys.readouterr().out.startswith("fail (3,) repaired")


def test_the_example_with_blocks_runs(monkeypatch, capsys):
    real = inspect.signature(blocks.channel_values)

    def channel_values(*arguments, **settings):
        taken = real.bind(*arguments, **settings).arguments
        assert all(path.exists() for path in (taken["model"], taken["data"], *taken["known_trigger"]))
        assert taken["run"].epsilon is None
        players = (("a", 0), ("a", 1), ("b", 0))
        return ChannelValues(players, exact_estimate(lambda on: on @ np.array([1.0, 3.0, 2.0]), 3))

    monkeypatch.setattr(blocks, "channel_values", channel_values)
    _, example = readme.blocks(TEXT, "python")
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "a 1 3.000 ± 0.000\nb 0 2.000 ± 0.000\na 0 1.000 ± 0.000\n"


def test_command_and_exit_code_tables_are_complete():
    assert [shlex.split(row[0].strip("`"))[1] for row in rows(TEXT, "command")] == list(shapprune.commands)
    codes = {exits.COULD_NOT_RUN, exits.INTERRUPTED, *exits.VERDICTS.values()}
    assert {int(row[0]) for row in rows(TEXT, "exit code")} == codes


def test_report_fields_exist():
    named = [name for row in rows(TEXT, "field") for name in re.findall(r"`([a-z_.0-9]+)`", row[0])]
    assert len(named) > 15
    assert [n for n in named if not _field(n)] == []
    assert not _field("model.sha512")
    assert not _field("verdicts")


def _field(dotted: str) -> bool:
    record: object = audit_record()
    for name in dotted.split("."):
        if name not in type(record).model_fields:
            return False
        record = getattr(record, name)
    return True


def test_every_dependency_has_a_reason():
    project = tomllib.loads((readme.ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[^A-Za-z0-9_-]", d)[0] for d in project["dependencies"]}
    assert {row[0] for row in rows(TEXT, "package")} == names
    assert {row[0] for row in rows(TEXT, "extra")} == set(project["optional-dependencies"])


def test_the_demo_capture_looks_like_the_demo():
    capture = readme.part(TEXT, "demo")
    for words in ("$ shapprune sanitize backdoored.onnx", "$ shapprune verify backdoored.onnx", "Was it true?"):
        assert words in capture
    source = Path(demo.__file__).read_text()
    for line in re.findall(r"^\$ (shapprune (?:sanitize|verify) .*)$", capture, re.MULTILINE):
        assert line in source
        assert not refused(shlex.split(line)[1:])


def test_a_capture_keeps_what_counts_and_marks_its_cuts():
    output = (
        "$ shapprune sanitize a\nFAIL  \n\nFiles\n  x\n\n"
        "$ shapprune verify b\nPASS\n\nTriggers found in b\n\nWas it true?\n ACC"
    )
    kept = ["$ shapprune demo", "$ shapprune sanitize a", "FAIL", "", "[...]", "", "$ shapprune verify b", "PASS", "",
            "[...]", "", "Was it true?", " ACC"]  # fmt: skip
    assert readme.capture(output).splitlines() == ["```text", *kept, "```"]


def test_limits_named_in_the_text_are_those_of_the_code():
    assert f"more than {demo.MAX_TRUE_ASR:.0%} of".replace("%", " %") in TEXT
    assert f"more than {100 * demo.MAX_TRUE_LOSS:.0f} points of accuracy" in TEXT
    assert f"`--clean-budget`, {100 * RunOptions().clean_budget:.0f} points" in TEXT
    assert f'`schema_version` | "{AuditRecord.model_fields["schema_version"].default}"' in TEXT
    assert f"* {onnx_shapprune.__version__}:" in TEXT
    assert f"  sha256 {load_policy(None).sha256}\n" in TEXT


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(((?!https?:)[^)#]+)\)", TEXT)
    assert targets
    assert [t for t in targets if not (readme.ROOT / t).exists()] == []


def test_ci_finds_the_test_command():
    script = (readme.ROOT / ".ci" / "run").read_text()
    (line,) = [li for li in script.splitlines() if li.startswith("test_command=")]
    shown = subprocess.run(
        ["bash", "-c", f'{line}; echo "$test_command"'], cwd=readme.ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip().endswith(".venv/bin/python -m pytest")
    assert shown.stdout.count("\n") == 1
