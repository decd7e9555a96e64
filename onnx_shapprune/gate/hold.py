"""gate_record(): a record held against a policy, and against the file that is to be deployed."""

import datetime
from pathlib import Path

from onnx_shapprune.gate.baseline import check_baseline, load_baseline
from onnx_shapprune.gate.evidence import Record, check_model, load_record
from onnx_shapprune.gate.judge import judge
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.gate.policy import load_policy


def gate_record(
    record: Record | Path | str,
    *,
    policy: Path | str | None = None,
    model: Path | str | None = None,
    baseline: Path | str | None = None,
    today: datetime.date | None = None,
) -> Judgement:
    """What a policy makes of a record; runs no model.

    record: of audit(), sanitize() or verify(), or the file that it was written to. policy: a TOML file, None: the default
    one. model: the file to be deployed, which is hashed. baseline: a file with an earlier report that the policy lists,
    whose findings are let pass. today: the day on which waivers are held against their last one,
    None: now, in UTC. Raises EvidenceError where the record is none or is about other bytes, PolicyError.
    """
    if isinstance(record, (str, Path)):
        record = load_record(Path(record))
    if model is not None:
        check_model(record, Path(model))
    wanted = load_policy(None if policy is None else Path(policy))
    day = today or datetime.datetime.now(datetime.UTC).date()
    earlier = None if baseline is None else load_baseline(Path(baseline), wanted)
    if earlier is not None:
        check_baseline(earlier, record)
    return judge(record, wanted, today=day, model_checked=model is not None, baseline=earlier)
