"""From Python: a batch, its records held against a policy, and reports of them, as on the command line."""

import datetime
import os

import pytest
from record_samples import audit_record

import onnx_shapprune
from onnx_shapprune.report.text import json_text

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits differ on Windows")


def test_a_batch_its_judgements_and_its_reports(fleet):
    fleet.add("a.onnx", "pass")
    path = fleet.add("b.onnx", "fail")
    steps = []
    done = onnx_shapprune.audit_batch(fleet.models, fleet.results, data="none", progress=steps.append)
    assert [(r.model, r.outcome) for r in done] == [(str(fleet.models / "a.onnx"), "pass"), (str(path), "fail")]
    assert [s.outcome if hasattr(s, "outcome") else s.state for s in steps if s.over] == ["pass", "fail"]
    assert (fleet.results / "index.html").exists()
    report = fleet.results / done[1].folder / "report.json"
    judgement = onnx_shapprune.gate_record(report, model=path)
    assert (judgement.verdict, judgement.model_checked) == ("fail", True)
    with pytest.raises(onnx_shapprune.EvidenceError, match="about other bytes"):
        onnx_shapprune.gate_record(report, model=fleet.models / "a.onnx")


def test_results_among_the_models_are_refused(fleet):
    fleet.add("sub/a.onnx", "pass")
    with pytest.raises(onnx_shapprune.OutputError, match="choose another folder"):
        onnx_shapprune.audit_batch(fleet.models, fleet.models / "sub", data="none")
    assert fleet.runs() == []


def test_a_record_is_judged_and_rendered(tmp_path):
    record = audit_record(repair="not_tried")
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f'schema = 1\n[[waiver]]\nrule = "OSP101"\nmodel_sha256 = "{record.model.sha256}"\nuntil = 2026-05-31\n'
        'reason = "small"\nby = "alice"\n'
    )
    last, after = datetime.date(2026, 5, 31), datetime.date(2026, 6, 1)
    assert onnx_shapprune.gate_record(record, policy=policy, today=last).verdict == "pass"
    judgement = onnx_shapprune.gate_record(record, policy=policy, today=after)
    assert judgement.verdict == "fail"
    assert onnx_shapprune.render_report(record, judgement, "md").startswith("## FAIL")
    assert onnx_shapprune.render_report(record, judgement, "json") == json_text(record)
    with pytest.raises(onnx_shapprune.DataError, match="no format 'htlm'"):
        onnx_shapprune.render_report(record, judgement, "htlm")
