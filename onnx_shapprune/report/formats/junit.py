"""JUnit XML, for test tabs. A skipped test shows green, so what could not be told is an error."""

import re
from xml.etree import ElementTree

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.report.formats.outcomes import Outcome, outcomes
from onnx_shapprune.report.subject import moment, seconds, shown_path
from onnx_shapprune.report.text import plain

LIMIT = 2000
# XML 1.0 has no place for these, not even escaped.
ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(record: Record, judgement: Judgement) -> str:
    """One suite, with a test case per outcome; a waived or known one passes and says so."""
    model, tests, made = judged_files(record)[0], outcomes(record, judgement), moment(record)
    counts = {
        "tests": str(len(tests)),
        "failures": str(sum(t.result == "failed" for t in tests)),
        "errors": str(sum(t.result == "error" for t in tests)),
        "skipped": "0",
        "time": f"{seconds(record):.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "shapprune", **counts})
    stamp = {"timestamp": made.isoformat(timespec="seconds")} if made else {}
    suite = ElementTree.SubElement(root, "testsuite", {"name": legal(shown_path(model)), **counts, **stamp})
    properties = {
        "verdict": judgement.verdict,
        "sha256": model.sha256,
        "policy": judgement.policy,
        "policy_sha256": judgement.policy_sha256,
    }
    if judgement.baseline is not None:
        properties |= {"baseline": judgement.baseline.name, "baseline_sha256": judgement.baseline.sha256}
    _properties(suite, properties)
    for test in tests:
        _case(suite, test)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _case(suite: ElementTree.Element, test: Outcome) -> None:
    name = f"shapprune.{test.rule}" if test.rule else "shapprune"
    case = ElementTree.SubElement(suite, "testcase", {"classname": legal(name), "name": legal(test.title)})
    text = legal(test.text)
    if test.result in ("waived", "known"):
        _properties(case, {test.result: text})
    elif test.result != "passed":
        kind = "failure" if test.result == "failed" else "error"
        ElementTree.SubElement(case, kind, {"type": legal(test.rule or test.id), "message": text}).text = text


def _properties(parent: ElementTree.Element, values: dict[str, str]) -> None:
    listed = ElementTree.SubElement(parent, "properties")
    for name, value in values.items():
        ElementTree.SubElement(listed, "property", {"name": name, "value": legal(value)})


def legal(text: str) -> str:
    """Text that XML 1.0 has a place for."""
    return ILLEGAL.sub("\ufffd", plain(text, limit=LIMIT))
