"""Does a signed statement say that these files passed? Nothing but Python's standard library is needed.

    python check_attestation.py BUNDLE.json MODEL.onnx [DATA...]

It reads the statement out of the signed envelope, compares sha256 digests, and wants the result PASSED, or WARNED (passed
with waivers). It checks no signature: run `cosign verify-blob-attestation` on the same bundle first. Exits with 0 when the
files passed, 1 when they did not, 2 when the bundle cannot be read.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
PAYLOAD = "application/vnd.in-toto+json"


def statement_of(bundle: Path) -> dict:
    """The statement in the envelope of a Sigstore bundle. Raises ValueError, KeyError or TypeError for anything else."""
    envelope = json.loads(bundle.read_bytes())["dsseEnvelope"]
    if envelope["payloadType"] != PAYLOAD:
        raise ValueError(f"the payload is {envelope['payloadType']!r}, no in-toto statement")
    statement = json.loads(base64.b64decode(envelope["payload"], validate=True))
    if statement["_type"] != STATEMENT or statement["predicateType"] != TEST_RESULT:
        raise ValueError(f"the statement is about {statement['predicateType']!r}, not a test result")
    return statement


def refusal(statement: dict, files: list[Path]) -> str:
    """Why these files may not be used, "" when they may. Every file must be a subject, and every subject a file."""
    subjects = {s["digest"]["sha256"]: s["name"] for s in statement["subject"]}
    digests = {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in files}
    for digest in digests.keys() - subjects.keys():
        return f"the statement is not about {digests[digest]} (sha256 {digest})"
    for digest in subjects.keys() - digests.keys():
        return f"the statement is also about {subjects[digest]!r}, which was not given"
    result = statement["predicate"]["result"]
    return "" if result in ("PASSED", "WARNED") else f"the result is {result!r}"


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    bundle, *files = map(Path, arguments)
    try:
        why = refusal(statement_of(bundle), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"error: cannot read {bundle} or the files: {error!r}", file=sys.stderr)
        return 2
    print(f"refused: {why}" if why else f"passed: {', '.join(map(str, files))}")
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
