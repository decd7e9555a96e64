"""A folder in the place of a model: what is found in it arrives, and is said."""

import json
import shutil

import pytest
from invocations import only_line, run

from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.sample import sample_path

SAID = {"image_mean": [0.5], "image_std": [0.25], "size": {"height": 28, "width": 28}}
NAMES = {str(i): name for i, name in enumerate("abcdefghij")}


@pytest.fixture
def folder(tmp_path, model):
    """A snapshot of a model."""
    place = tmp_path / "snapshot"
    (place / "onnx").mkdir(parents=True)
    shutil.copy(model, place / "onnx" / "model.onnx")
    (place / "preprocessor_config.json").write_text(json.dumps(SAID))
    (place / "config.json").write_text(json.dumps({"id2label": NAMES}))
    return place


@pytest.mark.parametrize("command", ["audit", "sanitize", "gate"])
def test_what_is_found_arrives_and_is_said(fake, folder, pictures, tmp_path, command):
    more = ["-o", tmp_path / "out.onnx"] if command == "sanitize" else []
    result = run(command, folder, "--data", pictures, "--std", "0.3", *more)
    ((_, (path, _), settings),) = fake.calls
    inputs = settings["inputs"]
    assert path == folder / "onnx" / "model.onnx"
    assert (inputs.mean, inputs.std, inputs.size) == ((0.5,), (0.3,), (28, 28))
    assert inputs.class_names == folder / "config.json"
    for line in (*inputs.found, f"{path} is the model of {folder}"):
        assert f"note: {line}" in result.stderr.splitlines()
    assert "--std as given, not 0.25 from preprocessor_config.json (image_std)" in inputs.found


def test_the_environment_and_a_named_file_win_too(fake, folder, pictures, tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text("mean = 0.7\n")
    monkeypatch.setenv("SHAPPRUNE_STD", "0.9")
    run("audit", folder, "--data", pictures, "--config", tmp_path / "mine.toml")
    assert (fake.settings["inputs"].mean, fake.settings["inputs"].std) == ((0.7,), (0.9,))


def test_a_file_is_taken_without_what_lies_beside_it(fake, folder, pictures):
    result = run("audit", folder / "onnx" / "model.onnx", "--data", pictures)
    assert (fake.settings["inputs"].mean, fake.settings["inputs"].found) == ((0.0,), ())
    assert "note" not in result.stderr


def test_several_or_broken_files_are_one_line(fake, folder, pictures):
    shutil.copy(folder / "onnx" / "model.onnx", folder / "onnx" / "b.onnx")
    assert "name the one to audit: onnx/b.onnx, onnx/model.onnx" in only_line(run("audit", folder, "--data", pictures))
    (folder / "onnx" / "b.onnx").unlink()
    (folder / "config.json").write_text("{")
    assert "config.json is no JSON" in only_line(run("audit", folder, "--data", pictures))
    assert fake.calls == []


def test_no_settings_are_read_while_one_stands_in_the_folder(fake, folder, pictures, monkeypatch):
    (folder / "shapprune.toml").write_text("seed = 7\n")
    monkeypatch.chdir(folder)
    for command in ("audit", "gate"):
        result = run(command, ".", "--data", pictures)
        assert "is not read" in result.stderr
        assert fake.settings["run"].seed == 0


def test_a_real_audit_of_a_folder_records_what_was_read(tmp_path):
    """One class more than the model has names for: the names come from the folder, and are held against the model."""
    place, report = tmp_path / "snapshot", tmp_path / "report.json"
    place.mkdir()
    shutil.copy(sample_path("clean.onnx"), place / "model.onnx")
    (place / "preprocessor_config.json").write_text(json.dumps({"do_rescale": True, "size": 28}))
    (place / "config.json").write_text(json.dumps({"id2label": NAMES}))
    words = ("audit", place, "--data", sample_path("pictures"), "--search-budget", "0", "--threads", "1", "-o", report)
    run(*words)
    record = AuditRecord.model_validate_json(report.read_text())
    assert record.model.class_names == tuple("abcdefghij")
    assert "--input-size 28 28 from preprocessor_config.json (size)" in record.settings["found"]
    (place / "config.json").write_text(json.dumps({"id2label": NAMES | {"10": "k"}}))
    assert "11 class names are given but the model has 10" in run(*words).stderr
