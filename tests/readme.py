"""Rewrite the generated parts of README.md: `python -m tests.readme`, from the repository's root.

A generated part stands between <!-- name --> and <!-- /name -->. test_docs.py fails when one is out of date. With --demo
the demo is run, on one thread, and its capture replaced too.
"""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from click.testing import CliRunner

from onnx_shapprune.autodiff import rules
from onnx_shapprune.autodiff.registry import NO_GRADIENT, supported_ops
from onnx_shapprune.autodiff.rules.quantization import STRAIGHT_THROUGH
from onnx_shapprune.cli import shapprune
from onnx_shapprune.graph.units import INTEGER, LINEAR, NORMS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
HELP_WIDTH = 100


def operators() -> str:
    """What happens to every operator: whether its channels are units, and how a gradient goes through it."""
    assert rules.__all__, "importing the rules registers them"
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


def capture(output: str) -> str:
    """The demo's output without its longer tables: what stands from each first line up to a last one."""
    cuts = [("$ shapprune sanitize", "Files"), ("$ shapprune verify", "Triggers found"), ("Was it true?", "\0")]
    lines = [line.rstrip() for line in output.splitlines()]
    kept = ["$ shapprune demo"]
    for first, last in cuts:
        begin = next(i for i, line in enumerate(lines) if line.startswith(first))
        end = next((i for i in range(begin, len(lines)) if lines[i].startswith(last)), len(lines))
        kept += lines[begin:end] + (["[...]", ""] if end < len(lines) else [])
    return "\n".join(("```text", *kept, "```"))


def demo() -> str:
    """A fresh capture of the demo. Raises CalledProcessError when it does not end well."""
    command = [sys.executable, "-m", "onnx_shapprune", "demo", "--threads", "1", "--progress", "off"]
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    return capture(
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    )


PARTS: dict[str, Callable[[], str]] = {"operators": operators, "command-line": command_line}


def part(text: str, name: str) -> str:
    """What stands between the markers of a part, without the last line break."""
    _, begin, rest = text.partition(f"<!-- {name} -->\n")
    content, end, _ = rest.partition(f"<!-- /{name} -->\n")
    assert begin, f"README.md has no part called {name}"
    assert end, f"README.md does not end its part {name}"
    return content.removesuffix("\n")


def rewritten(text: str, parts: Mapping[str, Callable[[], str]] = PARTS) -> str:
    """The README with these generated parts made anew."""
    for name, make in parts.items():
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
    wanted = {**PARTS, "demo": demo} if "--demo" in sys.argv[1:] else PARTS
    README.write_text(rewritten(README.read_text(encoding="utf-8"), wanted), encoding="utf-8")
