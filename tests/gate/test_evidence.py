"""Records are read back as they were written, and nothing else is taken for one."""

import hashlib
import json

import pytest
from record_samples import DIGEST, audit_record, verify_record

from onnx_shapprune.errors import EvidenceError
from onnx_shapprune.gate.evidence import check_model, judged_files, load_record
from onnx_shapprune.record.parts import FileDigest
from onnx_shapprune.report.text import json_text


@pytest.fixture
def stored(tmp_path):
    """Writes a changed record and says why it is refused."""

    def refused(*, text: str | None = None, **changes: object) -> str:
        path = tmp_path / "report.json"
        path.write_text(text if text is not None else json.dumps(audit_record().model_dump(mode="json") | changes))
        with pytest.raises(EvidenceError) as caught:
            load_record(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refused


@pytest.mark.parametrize("record", [audit_record(), audit_record(repair="not_tried"), verify_record()])
def test_what_was_written_is_what_is_read(tmp_path, record):
    path = tmp_path / "report.json"
    path.write_text(json_text(record))
    assert load_record(path) == record


def test_keys_of_later_minor_versions_are_ignored(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(audit_record().model_dump(mode="json") | {"schema_version": "1.99", "new": 1}))
    assert load_record(path).verdict == "fail"


def test_what_is_no_record(stored):
    assert "no UTF-8" not in stored(text="{")
    assert "no report of shapprune" in stored(text="[]")
    assert "no report of shapprune" in stored(tool="other")
    assert "schema version '2.0'" in stored(schema_version="2.0")
    for odd in (1, "1", "1.x", "1.2.3", "11.0", None):
        assert "schema version" in stored(schema_version=odd)
    assert "nested too deeply" in stored(text="[" * 100_000)
    assert "no report of audit" in stored(text='{"tool": "onnx-shapprune", "schema_version": "1.0", "masks": []}')
    assert "stands twice" in stored(text='{"verdict": "fail", "verdict": "pass"}')


def test_values_that_no_record_has(stored):
    assert "seed: Input should be a valid integer" in stored(seed="0")
    assert "verdict" in stored(verdict="green")
    assert "NaN is no number" in stored(score=float("nan"))
    assert "Infinity is no number" in stored(settings={"a": float("inf")})
    text = json.dumps(audit_record().model_dump(mode="json"))
    for p in ("1.5", "-0.1"):
        assert "p_value" in stored(text=text.replace('"p_value": 0.0001', f'"p_value": {p}')), "no p-value"
    assert "1e999 is no number" in stored(text=text.replace('"score": 3.1', '"score": 1e999'))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(EvidenceError, match="not found"):
        load_record(tmp_path / "none.json")
    with pytest.raises(EvidenceError, match="not a regular file"):
        load_record(tmp_path)
    (tmp_path / "b.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(EvidenceError, match="no UTF-8"):
        load_record(tmp_path / "b.json")
    with (tmp_path / "large.json").open("wb") as stream:
        stream.truncate((64 << 20) + 1)
    with pytest.raises(EvidenceError, match="more than the limit"):
        load_record(tmp_path / "large.json")


def test_a_verdict_is_about_the_file_that_is_deployed():
    audited = audit_record(repair="not_tried")
    assert [f.sha256 for f in judged_files(audited)] == [audited.model.sha256]
    assert judged_files(audit_record()) == (DIGEST,)
    dry = audit_record()
    dry = dry.model_copy(update={"repair": dry.repair.model_copy(update={"output": None})})
    assert [f.sha256 for f in judged_files(dry)] == [dry.model.sha256]
    data = FileDigest(name="after.data", size=1, sha256="0" * 64)
    assert judged_files(verify_record().model_copy(update={"after_external": (data,)})) == (DIGEST, data)


def about(path, record=None):
    """An audit of the bytes at `path`, with external data beside it."""
    record = record or audit_record(repair="not_tried")
    data = path.with_name("weights.bin")
    external = FileDigest(name=data.name, size=4, sha256=hashlib.sha256(data.read_bytes()).hexdigest())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return record.model_copy(
        update={"model": record.model.model_copy(update={"sha256": sha256, "external": (external,)})}
    )


def test_the_bytes_of_the_model_are_hashed_again(tmp_path):
    model, data = tmp_path / "m.onnx", tmp_path / "weights.bin"
    model.write_bytes(b"model")
    data.write_bytes(b"data")
    record = about(model)
    check_model(record, model)

    data.write_bytes(b"dat4")
    with pytest.raises(EvidenceError, match=r"external data 'weights.bin' has changed"):
        check_model(record, model)
    data.unlink()
    with pytest.raises(EvidenceError, match="not found"):
        check_model(record, model)
    model.write_bytes(b"other")
    with pytest.raises(EvidenceError, match="about other bytes"):
        check_model(record, model)


def test_a_record_names_no_data_outside_of_the_models_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    model = tmp_path / "sub" / "m.onnx"
    model.write_bytes(b"model")
    (tmp_path / "sub" / "weights.bin").write_bytes(b"data")
    (tmp_path / "weights.bin").write_bytes(b"data")
    record = about(model)
    outside = record.model.external[0].model_copy(update={"name": "../weights.bin"})
    record = record.model_copy(update={"model": record.model.model_copy(update={"external": (outside,)})})
    with pytest.raises(EvidenceError, match="outside the model's folder"):
        check_model(record, model)


@pytest.mark.parametrize(
    ("name", "words"), [("a\0b", "is no path"), ("a\ud800", "is no path"), ("x" * 300, "cannot be")]
)
def test_a_record_names_data_that_has_no_name(tmp_path, name, words):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"model")
    (tmp_path / "weights.bin").write_bytes(b"data")
    record = about(model)
    odd = record.model.external[0].model_copy(update={"name": name})
    record = record.model_copy(update={"model": record.model.model_copy(update={"external": (odd,)})})
    with pytest.raises(EvidenceError, match=words):
        check_model(record, model)


def test_the_model_from_before_a_repair_is_refused_and_named(tmp_path):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"model")
    (tmp_path / "weights.bin").write_bytes(b"data")
    with pytest.raises(EvidenceError, match="it is the file from before the repair"):
        check_model(about(model, audit_record()), model)
