"""SARIF 2.1.0, for code scanning: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html

Nothing is null, no result lacks a place, and a run that could not tell says so in its invocation. A model has no lines:
every result points at 1:1 and, where channels are named, at logical locations below it.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.gate.judgement import Finding, Judgement, Waiver
from onnx_shapprune.gate.rules import RULES, Severity
from onnx_shapprune.record.parts import FileDigest, UnitRef
from onnx_shapprune.report.subject import moment, run_id, shown_path
from onnx_shapprune.report.text import plain
from onnx_shapprune.version import __version__

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS: dict[Severity, str] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "note",
    "info": "note",
}
METHOD = "https://arxiv.org/abs/2112.14889"  # the tool has no page of its own on the web, and validators ask for one
SECURITY: dict[Severity, str] = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "3.0"}
ATLAS_BACKDOOR = "external/mitre-atlas/AML.T0018"
MESSAGE = 1000


def sarif(record: Record, judgement: Judgement) -> str:
    """One run with a result for every finding; the waived ones are suppressed. Beside a baseline each has a baselineState,
    and there is a result, of the kind "pass", for each finding that only the baseline has.
    """
    model, *data = judged_files(record)
    found: list[tuple[Finding, Waiver | None]] = [(f, None) for f in judgement.findings]
    found += [(s.finding, s.waiver) for s in judgement.suppressed]
    found += [(f, None) for f in (*judgement.known, *judgement.gone)]
    units = list(dict.fromkeys((u.layer, u.channel) for f, _ in found for u in f.units))
    layers = list(dict.fromkeys(layer for layer, _ in units))
    places = [_place(plain(name), _path(name), "onnx-layer") for name in layers]
    places += [
        {**_place(f"channel {c}", _path(name, c), "onnx-channel"), "parentIndex": layers.index(name)}
        for name, c in units
    ]
    numbers = {unit: len(layers) + i for i, unit in enumerate(units)}
    seen: Counter[str] = Counter()
    run: dict[str, object] = {
        "invocations": [_invocation(record, judgement)],
        "artifacts": [_artifact(model, "analysisTarget"), *(_artifact(d, "attachment") for d in data)],
        "results": [_result(f, w, model, numbers, seen) for f, w in found],
        "properties": {
            "verdict": judgement.verdict,
            "policy": plain(judgement.policy),
            "policySha256": judgement.policy_sha256,
            "modelChecked": judgement.model_checked,
            **({"baselineSha256": judgement.baseline.sha256} if judgement.baseline else {}),
        },
    }
    if places:
        run["logicalLocations"] = places
    return frame(run, plain(run_id(record, model), limit=500))


def frame(run: Mapping[str, object], ident: str) -> str:
    """A log with one run of this tool, which the identifier tells apart from others."""
    driver = {"name": "onnx-shapprune", "semanticVersion": __version__, "informationUri": METHOD, "rules": _rules()}
    head = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"onnx-shapprune/{ident}/"},
        "columnKind": "utf16CodeUnits",
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [head | dict(run)]}, indent=2) + "\n"


def fingerprint(*parts: object) -> str:
    """A digest of what makes a finding the same one next time."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()


def _rules() -> list[dict[str, object]]:
    rules: list[dict[str, object]] = []
    for rule in RULES.values():
        tags = ["security", *([ATLAS_BACKDOOR, "backdoor"] if rule.id.startswith("OSP1") else [])]
        tags += [] if rule.cwe is None else [f"external/cwe/cwe-{rule.cwe:03}"]
        properties: dict[str, object] = {"tags": tags, "precision": "medium"}
        if rule.severity in SECURITY:
            properties["security-severity"] = SECURITY[rule.severity]
        rules.append(
            {
                "id": rule.id,
                "name": rule.name.title().replace("-", ""),
                "shortDescription": {"text": rule.title},
                "fullDescription": {"text": rule.help},
                "help": {"text": rule.help},
                "defaultConfiguration": {"level": LEVELS[rule.severity]},
                "properties": properties,
            }
        )
    return rules


def _invocation(record: Record, judgement: Judgement) -> dict[str, object]:
    undecided = judgement.verdict == "inconclusive"
    made = moment(record)
    invocation: dict[str, object] = {"executionSuccessful": not undecided}
    if record.command:
        invocation["arguments"] = [plain(a) for a in record.command[1:]]
    if made:
        invocation["endTimeUtc"] = f"{made.isoformat(timespec='seconds')}Z"
    if undecided:
        reasons = judgement.reasons or ("inconclusive",)
        invocation["toolExecutionNotifications"] = [{"level": "error", "message": _message(r)} for r in reasons]
    return invocation


def _artifact(file: FileDigest, role: str) -> dict[str, object]:
    return {
        "location": {"uri": uri(shown_path(file))},
        "roles": [role],
        "length": file.size,
        "mimeType": "application/onnx" if role == "analysisTarget" else "application/octet-stream",
        "hashes": {"sha-256": file.sha256},
    }


def _result(
    finding: Finding, waiver: Waiver | None, model: FileDigest, numbers: dict[tuple[str, int], int], seen: Counter[str]
) -> dict[str, object]:
    same = fingerprint(finding.rule, finding.source_class, finding.target_class)
    seen[same] += 1
    location: dict[str, object] = {
        "physicalLocation": {
            "artifactLocation": {"uri": uri(shown_path(model)), "index": 0},
            "region": {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1},
        }
    }
    if finding.units:
        location["logicalLocations"] = _logical(finding.units, numbers)
    properties: dict[str, object] = {"severity": finding.severity, "confidence": finding.confidence}
    for name, value in (("targetClass", finding.target_class), ("sourceClass", finding.source_class)):
        if value is not None:
            properties[name] = value
    result: dict[str, object] = {
        "ruleId": finding.rule,
        "ruleIndex": list(RULES).index(finding.rule),
        "kind": "fail",
        "level": LEVELS[finding.severity],
        "message": _message(finding.message),
        "locations": [location],
        # Without the digest of the model: the alert stays the same one when a new version of the model has it too.
        "partialFingerprints": {
            "primaryLocationLineHash": f"{same[:16]}:{seen[same]}",
            "modelRuleTarget/v1": fingerprint(model.sha256, same, seen[same]),
        },
        "properties": properties,
    }
    if finding.state is not None:
        result["baselineState"] = finding.state
    if finding.state == "absent":
        result |= {"kind": "pass", "level": "none"}
    if waiver:
        justification = plain(f"{waiver.reason} ({waiver.by}, until {waiver.until})", limit=MESSAGE)
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": justification}]
    return result


def _logical(units: Sequence[UnitRef], numbers: dict[tuple[str, int], int]) -> list[dict[str, object]]:
    return [
        {"index": numbers[u.layer, u.channel], "fullyQualifiedName": _path(u.layer, u.channel), "kind": "onnx-channel"}
        for u in units
    ]


def _place(name: str, path: str, kind: str) -> dict[str, object]:
    return {"name": name, "fullyQualifiedName": path, "kind": kind}


def _path(layer: str, channel: int | None = None) -> str:
    name = f"main_graph/{plain(layer).strip('/')}"
    return name if channel is None else f"{name}/ch{channel}"


def uri(name: str) -> str:
    """A relative URI of a file. What looks like a scheme is escaped."""
    return quote(plain(name, limit=500))


def _message(text: str) -> dict[str, str]:
    """Text in which nothing is a link: [words](target) would be one."""
    return {"text": re.sub(r"(\[[^\]]*)\](?=\()", r"\1\\]", plain(text, limit=MESSAGE)) or "-"}
