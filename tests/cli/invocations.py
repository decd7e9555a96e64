"""Run the program in this process, and what every refusal looks like."""

from click.testing import CliRunner, Result

from onnx_shapprune.cli import shapprune


def run(*args: object, input: str | None = None) -> Result:
    """Run the program in this process; stdout and stderr apart. input: what it reads from standard input."""
    return CliRunner().invoke(shapprune, [str(a) for a in args], input=input, prog_name="shapprune")


def only_line(result: Result) -> str:
    """The one error line of a command that could not run: exit 2, nothing on stdout."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("search:")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]
