"""A CycloneDX 1.6 bill of materials of the model, with a model card, and the verdict as a claim with its evidence."""

import json
import uuid
from collections.abc import Iterator

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.record.parts import FileDigest, Rates
from onnx_shapprune.report.limits import limits
from onnx_shapprune.report.numbers import wilson
from onnx_shapprune.report.subject import moment, original
from onnx_shapprune.report.text import json_text, plain
from onnx_shapprune.version import __version__

MODEL, ASSESSOR, CLAIM, EVIDENCE = "model", "assessor", "claim", "evidence"
LIMIT = 1000


def cyclonedx(record: Record, judgement: Judgement) -> str:
    """The bill; its serial number is made of record and judgement, so that the same two give the same bytes."""
    model, *data = judged_files(record)
    component = _component(model, "machine-learning-model", MODEL) | {"modelCard": _card(record, judgement)}
    if before := original(record):
        component["pedigree"] = {"ancestors": [_component(before, "machine-learning-model", "original")]}
    made = moment(record)
    stamp = {"timestamp": f"{made.isoformat(timespec='seconds')}Z"} if made else {}
    claim = {
        "bom-ref": CLAIM,
        "target": MODEL,
        "predicate": f"{judgement.verdict}: shapprune's backdoor audit under policy {plain(judgement.policy)} "
        f"(sha256 {judgement.policy_sha256})",
        "reasoning": plain("; ".join(judgement.reasons), limit=LIMIT) or judgement.verdict,
        "evidence": [EVIDENCE],
    }
    evidence = {"bom-ref": EVIDENCE, "propertyName": "onnx-shapprune:record", "description": "the record of the run"}
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, json_text(record) + json_text(judgement)).urn,
        "version": 1,
        "metadata": {
            **stamp,
            "tools": {"components": [{"type": "application", "name": "onnx-shapprune", "version": __version__}]},
            "component": component,
        },
        "components": [_component(d, "file", f"data-{i}") for i, d in enumerate(data)],
        "declarations": {
            "assessors": [{"bom-ref": ASSESSOR, "thirdParty": False, "organization": {"name": "onnx-shapprune"}}],
            "claims": [claim],
            "evidence": [evidence],
        },
    }
    return json.dumps(bom, indent=2) + "\n"


def _component(file: FileDigest, kind: str, ref: str) -> dict[str, object]:
    hashes = [{"alg": "SHA-256", "content": file.sha256}]
    return {"type": kind, "bom-ref": ref, "name": plain(file.name), "hashes": hashes}


def _card(record: Record, judgement: Judgement) -> dict[str, object]:
    card: dict[str, object] = {
        "quantitativeAnalysis": {"performanceMetrics": [*_metrics(record)]},
        "considerations": {"technicalLimitations": [plain(s, limit=LIMIT) for s in limits(record, judgement)]},
        "properties": [
            {"name": f"onnx-shapprune:{name}", "value": plain(value)}
            for name, value in (
                ("verdict", judgement.verdict),
                ("policy", judgement.policy),
                ("policy-sha256", judgement.policy_sha256),
                ("schema-version", record.schema_version),
            )
        ],
    }
    if isinstance(record, AuditRecord):
        card["modelParameters"] = {
            "task": "image-classification",
            "inputs": [{"format": f"float32[N,{','.join(map(str, record.model.input_shape))}]"}],
            "outputs": [{"format": f"float32[N,{record.model.classes}]"}],
        }
    return card


def _metrics(record: Record) -> Iterator[dict[str, object]]:
    """Rates of the judged file: those after a change where there was one."""
    rates: Rates = record.after if original(record) and record.after else record.before
    named = (
        ("accuracy", rates.acc, rates.pictures, "clean pictures"),
        ("attack-success-rate", rates.asr, rates.triggered, "pictures with recovered triggers"),
        ("recovered-accuracy", rates.racc, rates.triggered, "pictures with recovered triggers"),
    )
    for kind, value, number, pictures in named:
        if value is not None:
            low, high = wilson(value, number)
            yield {
                "type": kind,
                "value": f"{value:.4f}",
                "slice": f"{number} {pictures}",
                "confidenceInterval": {"lowerBound": f"{low:.4f}", "upperBound": f"{high:.4f}"},
            }
