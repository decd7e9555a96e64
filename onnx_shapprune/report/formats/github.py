"""Workflow commands, for annotations on a run of GitHub Actions: print the file in a step."""

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.gate.rules import Severity
from onnx_shapprune.report.formats.annotations import annotations
from onnx_shapprune.report.subject import shown_path
from onnx_shapprune.report.text import plain

COMMANDS: dict[Severity, str] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "notice",
    "info": "notice",
}


def github(record: Record, judgement: Judgement) -> str:
    """A line for the verdict, and one for each finding. A name from a model cannot begin a command of its own."""
    name = plain(shown_path(judged_files(record)[0]), limit=500)
    verdict = "notice" if judgement.verdict == "pass" else "error"
    reason = "; ".join(plain(r, limit=600) for r in judgement.reasons)
    lines = [_command(verdict, name, f"shapprune: {judgement.verdict}", reason or judgement.verdict)]
    lines += [_command(COMMANDS[a.severity], name, a.rule, a.text) for a in annotations(judgement)]
    return "\n".join(lines) + "\n"


def _command(command: str, file: str, title: str, text: str) -> str:
    return f"::{command} file={_property(file)},line=1,title={_property(title)}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
