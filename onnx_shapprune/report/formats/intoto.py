"""An unsigned in-toto statement, test-result v0.1: https://in-toto.io/attestation/test-result/v0.1

Its subjects are matched by digest. It knows no "inconclusive": what could not be told has FAILED, never PASSED. Signing
is left to tools that hold keys, such as cosign.
"""

import json

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.report.formats.outcomes import outcomes
from onnx_shapprune.report.text import plain

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"


def intoto(record: Record, judgement: Judgement) -> str:
    """The statement; WARNED where only waivers or a baseline make it pass."""
    tests = outcomes(record, judgement)
    passing = "WARNED" if judgement.suppressed or judgement.known else "PASSED"
    configuration = [_resource(f"policy {judgement.policy}", judgement.policy_sha256)]
    if judgement.baseline is not None:
        configuration.append(_resource(f"baseline {judgement.baseline.name}", judgement.baseline.sha256))
    if record.data is not None:
        configuration.append(_resource("pictures", record.data.digest))
    predicate = {
        "result": passing if judgement.verdict == "pass" else "FAILED",
        "configuration": configuration,
        "passedTests": [plain(t.id) for t in tests if t.result == "passed"],
        "warnedTests": [plain(t.id) for t in tests if t.result in ("waived", "known")],
        "failedTests": [plain(t.id) for t in tests if t.result in ("failed", "error")],
    }
    statement = {
        "_type": STATEMENT,
        "subject": [_resource(f.name, f.sha256) for f in judged_files(record)],
        "predicateType": TEST_RESULT,
        "predicate": predicate,
    }
    return json.dumps(statement, indent=2) + "\n"


def _resource(name: str, sha256: str) -> dict[str, object]:
    return {"name": plain(name), "digest": {"sha256": sha256}}
