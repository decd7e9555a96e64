"""Rewrite the generated parts of the documentation: `python -m tests.pages`, from the repository's root.

A generated part stands between <!-- name --> and <!-- /name -->. test_docs.py fails when one is out of date. With --demo
the demo is run, on one thread, and its captures replaced too.
"""

import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from click.testing import CliRunner

import onnx_shapprune
from onnx_shapprune.autodiff import rules as gradient_rules
from onnx_shapprune.autodiff.registry import NO_GRADIENT, supported_ops
from onnx_shapprune.autodiff.rules.quantization import STRAIGHT_THROUGH
from onnx_shapprune.cli import shapprune
from onnx_shapprune.gate.rules import RULES
from onnx_shapprune.graph.units import INTEGER, LINEAR, NORMS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = ROOT / "onnx_shapprune" / "docs" / "pages"
HELP_WIDTH = 100
# What a capture keeps of the demo: from each first line up to a last one, "\0" for the end.
SHORT = (("$ shapprune sanitize", "  compared"), ("$ shapprune verify", "  before"), ("Was it true?", "\0"))
LONG = (("$ shapprune sanitize", "Files"), ("$ shapprune verify", "Triggers found"), ("Was it true?", "\0"))

Parts = Mapping[str, Callable[[], str]]


def operators() -> str:
    """What happens to every operator: whether its channels are units, and how a gradient goes through it."""
    assert gradient_rules.__all__, "importing the rules registers them"
    own = {*LINEAR, *NORMS, *STRAIGHT_THROUGH}
    known = tuple(op for op in supported_ops() if op not in own)
    rows = [
        (LINEAR, "every output channel or feature", "rule"),
        (tuple(NORMS), "every channel, unless the layer before it has them", "rule"),
        (tuple(INTEGER), "every output channel or feature", "straight through the rounding of a float twin"),
        (STRAIGHT_THROUGH, "weights behind them belong to their layer", "straight through the rounding"),
        (known, "", "rule"),
        (tuple(sorted(NO_GRADIENT)), "", "none by nature: gradients go round it, or there are none"),
        ((), "", "none: the search does without gradients in small networks, a repair is refused"),
    ]
    lines = ["| operators | number | units | gradient |", "|---|---|---|---|"]
    for ops, units, gradient in rows:
        names = " ".join(f"`{op}`" for op in ops) or "all others that onnxruntime runs"
        lines.append(f"| {names} | {len(ops) or ''} | {units} | {gradient} |")
    return "\n".join(lines)


def findings() -> str:
    """Every rule id, with how bad its findings are."""
    rows = [f"| {rule.id} | {rule.severity} | {rule.title} |" for rule in RULES.values()]
    return "\n".join(["| rule | severity | what it says |", "|---|---|---|", *rows])


def python_names() -> str:
    """The public names of the package, with the first sentence of their documentation."""
    names = [name for name in onnx_shapprune.__all__ if not name.startswith("__")]
    rows = []
    for name in names:
        text = inspect.getdoc(getattr(onnx_shapprune, name)) or ""
        first = re.split(r"[.](?: |$)", " ".join(text.split()))[0]
        rows.append(f"| `{name}` | {first} |")
    return "\n".join(["| name | what it is |", "|---|---|", *rows])


def command_help(name: str) -> str:
    """What `shapprune NAME --help` prints on a terminal of HELP_WIDTH columns."""
    arguments = [name, "--help"] if name else ["--help"]
    result = CliRunner().invoke(shapprune, arguments, prog_name="shapprune", terminal_width=HELP_WIDTH)
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.stdout.splitlines())


def command_line() -> str:
    """The help of every command."""
    return "\n\n".join(
        f"## {f'shapprune {name}'.strip()}\n\n```text\n{command_help(name)}\n```" for name in ("", *shapprune.commands)
    )


def capture(output: str, cuts: Sequence[tuple[str, str]], called: str = "$ shapprune demo") -> str:
    """The demo's output without its longer tables: what stands from each first line up to a last one."""
    lines = [line.rstrip() for line in output.splitlines()]
    kept = [called]
    for first, last in cuts:
        begin = next(i for i, line in enumerate(lines) if line.startswith(first))
        end = next((i for i in range(begin, len(lines)) if lines[i].startswith(last)), len(lines))
        kept += lines[begin:end] + (["[...]", ""] if end < len(lines) else [])
    return "\n".join(("```text", *kept, "```"))


@cache
def demo_output() -> str:
    """What a fresh demo prints with all tables. Raises CalledProcessError when it does not end well."""
    command = [sys.executable, "-m", "onnx_shapprune", "demo", "-v", "--threads", "1", "--progress", "off"]
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


PARTS: dict[Path, Parts] = {
    PAGES / "models.md": {"operators": operators},
    PAGES / "gate.md": {"rules": findings},
    PAGES / "python.md": {"names": python_names},
    PAGES / "cli.md": {"command-line": command_line},
}
CAPTURES: dict[Path, Parts] = {
    README: {"demo": lambda: capture(demo_output(), SHORT)},
    PAGES / "tutorial.md": {"demo": lambda: capture(demo_output(), LONG, "$ shapprune demo -v")},
}


def part(text: str, name: str) -> str:
    """What stands between the markers of a part, without the last line break."""
    _, begin, rest = text.partition(f"<!-- {name} -->\n")
    content, end, _ = rest.partition(f"<!-- /{name} -->\n")
    assert begin, f"there is no part called {name}"
    assert end, f"the part {name} has no end"
    return content.removesuffix("\n")


def rewritten(text: str, parts: Parts) -> str:
    """A page with these generated parts made anew."""
    for name, make in parts.items():
        part(text, name)
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->\n")
        text = f"{before}{begin}{make()}\n{end}{after}"
    return text


def write(path: Path, parts: Parts) -> None:
    """Make parts of a page anew, in place."""
    path.write_text(rewritten(path.read_text(encoding="utf-8"), parts), encoding="utf-8")


def blocks(text: str, *languages: str) -> list[str]:
    """Fenced code blocks in one of these languages, without common indentation."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(body) for _, language, body in found if language in languages]


if __name__ == "__main__":
    wanted = [*PARTS.items(), *(CAPTURES.items() if "--demo" in sys.argv[1:] else ())]
    for page, made in wanted:
        write(page, made)
