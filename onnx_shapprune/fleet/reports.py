"""A whole batch in the formats of other tools: what each model's report says, put together in one file."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pydantic import ValidationError

from onnx_shapprune.errors import EvidenceError
from onnx_shapprune.files.places import repository_path
from onnx_shapprune.files.reading import read_regular_file
from onnx_shapprune.fleet.results import JUDGEMENT, MAX_REPORT_BYTES, REPORT, Result
from onnx_shapprune.fleet.summary import by_severity, summary_json
from onnx_shapprune.gate.evidence import Record, load_record
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.report.formats.junit import junit, legal
from onnx_shapprune.report.formats.sarif import frame, sarif, uri
from onnx_shapprune.report.text import plain

COUNTS = ("tests", "failures", "errors", "skipped")
Made = Mapping[str, Any]


def batch_json(folder: Path, results: Sequence[Result]) -> str:
    """Counts, and the line of every model."""
    return summary_json(results)


def batch_sarif(folder: Path, results: Sequence[Result]) -> str:
    """One run with the findings of all models, of the same bytes once; what has no report is a notification, and no run of
    success.
    """
    whole: dict[str, Any] = {"invocations": [], "artifacts": [], "results": [], "logicalLocations": []}
    once = {r.folder or r.model: r for r in reversed(by_severity(results))}
    for result in by_severity([*once.values()]):
        found = _judged(folder, result)
        if found is None:
            whole["invocations"].append(_notification(result))
        else:
            _add(whole, json.loads(sarif(*found))["runs"][0])
    if not whole["logicalLocations"]:
        del whole["logicalLocations"]
    name = repository_path(folder) or folder.name
    return frame(whole, f"batch/{plain(name, limit=500)}")


def batch_junit(folder: Path, results: Sequence[Result]) -> str:
    """A suite for each model; one without a report is an error, one that this tool is not for is skipped."""
    root = ElementTree.Element("testsuites", {"name": "shapprune"})
    for result in by_severity(results):
        found = _judged(folder, result)
        if found is None:
            root.append(_suite(result))
        else:
            root.extend(ElementTree.fromstring(junit(*found).encode()).iter("testsuite"))
    for name in COUNTS:
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


BATCH_FORMATS: dict[str, Callable[[Path, Sequence[Result]], str]] = {
    "json": batch_json,
    "sarif": batch_sarif,
    "junit": batch_junit,
}


def _judged(folder: Path, result: Result) -> tuple[Record, Judgement] | None:
    """The stored report of a model and what the policy made of it, None where there is none. Raises EvidenceError."""
    if not result.folder:
        return None
    place = folder / result.folder
    payload = read_regular_file(place / JUDGEMENT, limit=MAX_REPORT_BYTES, what="judgement", error=EvidenceError)
    try:
        return load_record(place / REPORT), Judgement.model_validate_json(payload)
    except ValidationError:
        raise EvidenceError(f"{place / JUDGEMENT} is no judgement") from None


def _add(whole: dict[str, Any], run: Made) -> None:
    """Put a run behind others; its indices count from where they end."""
    artifacts, places = len(whole["artifacts"]), len(whole["logicalLocations"])
    model = run["artifacts"][0]
    prefix = (
        f"{model['location']['uri']}@{model['hashes']['sha-256'][:12]}/"  # layers of two models have the same names
    )
    for place in run.get("logicalLocations", ()):
        place["fullyQualifiedName"] = prefix + place["fullyQualifiedName"]
        if "parentIndex" in place:
            place["parentIndex"] += places
    for location in _locations(run):
        location["physicalLocation"]["artifactLocation"]["index"] += artifacts
        for logical in location.get("logicalLocations", ()):
            logical["index"] += places
            logical["fullyQualifiedName"] = prefix + logical["fullyQualifiedName"]
    for name in whole:
        whole[name] += run.get(name, [])


def _locations(run: Made) -> Iterator[dict[str, Any]]:
    for result in run["results"]:
        yield from result["locations"]


def _notification(result: Result) -> dict[str, object]:
    """That a model has no report, and why."""
    applicable = result.outcome != "not applicable"
    where = {
        "physicalLocation": {"artifactLocation": {"uri": uri(repository_path(Path(result.model)) or result.model)}}
    }
    text = plain(f"{result.outcome}: {'; '.join(result.reasons)}", limit=1000)
    note = {"level": "error" if applicable else "note", "message": {"text": text}, "locations": [where]}
    return {"executionSuccessful": not applicable, "toolExecutionNotifications": [note]}


def _suite(result: Result) -> ElementTree.Element:
    skipped = result.outcome == "not applicable"
    counts = {"tests": "1", "failures": "0", "errors": str(int(not skipped)), "skipped": str(int(skipped))}
    suite = ElementTree.Element("testsuite", {"name": legal(result.model), **counts})
    case = ElementTree.SubElement(suite, "testcase", {"classname": "shapprune", "name": "audit completed"})
    text = legal("; ".join(result.reasons))
    ElementTree.SubElement(case, "skipped" if skipped else "error", {"type": result.outcome, "message": text})
    return suite
