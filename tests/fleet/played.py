"""A child process that plays an audit: its "model" is a text whose first word says how the audit ends.

Run as a script it is that child. As a preload of a Dask worker it puts the script in the place of the real child.
"""

import ctypes
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

RECORDS = "PLAYED_RECORDS"  # a folder with pass.json, fail.json and inconclusive.json; runs.log lists the audits begun


def main() -> None:
    folder = Path(os.environ[RECORDS])
    request = json.loads(sys.stdin.buffer.readline())
    model = Path(request["arguments"][0])
    payload = model.read_bytes()
    word, *rest = payload.decode().split()
    with open(folder / "runs.log", "a") as log:
        log.write(f"{model.name}\n")
    if word == "segv":
        ctypes.string_at(0)
    if word == "hang":
        time.sleep(60)
    if word == "slow":
        time.sleep(float(rest[0]))
    if word == "error":
        send({"answer": {"missing": [], "error": "ModelError", "text": "no \x1b[31m<b>classifier"}})
        return
    if word == "text":
        send({"answer": {"missing": [], "error": "ModelError", "text": "not an image classifier: 2 inputs"}})
        return
    if word == "hostile":
        send({"answer": {"error": "HostileFileError", "hazards": [["OSP004", "asks for 4 TiB"]]}})
        return
    send({"progress": ["search", 1, 2, "class 1/2"]})
    record = json.loads((folder / f"{word if word in ('fail', 'inconclusive') else 'pass'}.json").read_text())
    record["model"].update(sha256=hashlib.sha256(payload).hexdigest(), name=model.name)
    record["settings"]["threads"] = request["settings"]["run"]["threads"]
    if word == "location":
        data = (model.parent / rest[0]).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        record["model"]["external"] = [{"name": rest[0], "size": len(data), "sha256": sha256}]
    output = request["settings"].get("output")
    if output and word == "fail" and rest:
        repaired(record, Path(output), folder / rest[0])
    elif output and rest[1:] == ["copied"]:
        Path(output).write_bytes(payload)
        copy = {"name": "sanitized.onnx", "size": len(payload), "sha256": record["model"]["sha256"]}
        record["repair"].update(status="nothing_to_repair", reason="a copy", output=copy)
    elif output and word == "fail":
        Path(output).write_bytes(b"repaired")
        written = {"name": "sanitized.onnx", "size": 8, "sha256": hashlib.sha256(b"repaired").hexdigest()}
        record["repair"].update(status="repaired", output=written, masked_vs_baked=0.0)
    send({"answer": {"missing": [], "record": record}})


def repaired(record: dict[str, Any], output: Path, made: Path) -> None:
    """Write a model and its data, as they lie in a folder, as what sanitize made."""
    files = []
    for name in ("sanitized.onnx", "sanitized.onnx.data"):
        payload = (made / name).read_bytes()
        output.with_name(name).write_bytes(payload)
        files.append({"name": name, "size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()})
    record["model"]["external"] = [{"name": "weights.bin", "size": 1, "sha256": "0" * 64}]
    record["repair"].update(status="repaired", output=files[0], output_external=files[1:], masked_vs_baked=0.0)


def send(frame: dict[str, object]) -> None:
    print(json.dumps(frame), flush=True)


if __name__ == "__main__":
    main()
elif os.environ.get(RECORDS):
    from onnx_shapprune.isolation import run

    run.CHILD = (sys.executable, "-S", "-E", __file__)
