"""Rewrite the generated parts of README.md: `python -m tests.readme`, from the repository's root.

A generated part stands between <!-- name --> and <!-- /name -->. test_docs.py fails when one is out of date.
"""

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from onnx_shapprune.autodiff import rules
from onnx_shapprune.autodiff.registry import NO_GRADIENT, supported_ops
from onnx_shapprune.cli import shapprune

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
HELP_WIDTH = 100


def operators() -> str:
    """Every operator with a gradient rule, and those through which no gradient goes."""
    assert rules.__all__, "importing the rules registers them"
    rows = {"gradient rule": supported_ops(), "no gradient, by nature": tuple(sorted(NO_GRADIENT))}
    lines = ["| | number | operators |", "|---|---|---|"]
    lines += [f"| {name} | {len(ops)} | {' '.join(f'`{op}`' for op in ops)} |" for name, ops in rows.items()]
    return "\n".join(lines)


def command_help(name: str) -> str:
    """What `shapprune NAME --help` prints on a terminal of HELP_WIDTH columns."""
    arguments = [name, "--help"] if name else ["--help"]
    result = CliRunner().invoke(shapprune, arguments, prog_name="shapprune", terminal_width=HELP_WIDTH)
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.stdout.splitlines())


def command_line() -> str:
    """The help of every command."""
    parts = []
    for name in ("", *shapprune.commands):
        title = f"shapprune {name}".strip()
        parts.append(f"<details><summary><code>{title} --help</code></summary>\n\n```text\n{command_help(name)}\n```\n")
        parts.append("</details>\n")
    return "\n".join(parts).rstrip()


PARTS: dict[str, Callable[[], str]] = {"operators": operators, "command-line": command_line}


def part(text: str, name: str) -> str:
    """What stands between the markers of a part, without the last line break."""
    _, begin, rest = text.partition(f"<!-- {name} -->\n")
    content, end, _ = rest.partition(f"<!-- /{name} -->\n")
    assert begin, f"README.md has no part called {name}"
    assert end, f"README.md does not end its part {name}"
    return content.removesuffix("\n")


def rewritten(text: str) -> str:
    """The README with every generated part made anew."""
    for name, make in PARTS.items():
        part(text, name)
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->\n")
        text = f"{before}{begin}{make()}\n{end}{after}"
    return text


def blocks(text: str, *languages: str) -> list[str]:
    """Fenced code blocks in one of these languages, without common indentation."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(body) for _, language, body in found if language in languages]


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")
