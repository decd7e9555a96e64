"""A network that answers yes or no by one score: audited, repaired, verified and gated as one of two classes."""

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import one_score
import onnx
import onnxruntime
import planted
import pytest

from onnx_shapprune.commands.audit import audit
from onnx_shapprune.commands.inspect import inspect
from onnx_shapprune.commands.mask import mask
from onnx_shapprune.commands.output import Output
from onnx_shapprune.commands.repair import sanitize
from onnx_shapprune.commands.verify import verify
from onnx_shapprune.errors import ModelError
from onnx_shapprune.gate.evidence import check_model, load_record
from onnx_shapprune.gate.judge import judge
from onnx_shapprune.gate.policy import load_policy
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.report.text import json_text
from onnx_shapprune.settings import InputOptions, RunOptions

QUICK = RunOptions(threads=1, device="cpu", permutations=4, restarts=1, calibration=planted.calibration())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("one_score")
    onnx.save(one_score.halves_net(), made / "backdoored.onnx")
    onnx.save(one_score.halves_net(0.0), made / "clean.onnx")
    onnx.save(one_score.halves_net(scores=2), made / "twin.onnx")
    x, y = one_score.halves_pictures()
    np.savez(made / "pictures.npz", x=x, y=y)
    (made / "names.txt").write_text("no\nyes\n")
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> AuditRecord:
    inputs = InputOptions(class_names=folder / "names.txt")
    return audit(folder / "backdoored.onnx", folder / "pictures.npz", inputs=inputs, run=QUICK)


@pytest.fixture(scope="module")
def repaired(folder: Path) -> tuple[AuditRecord, Path]:
    out = folder / "repaired.onnx"
    run = replace(QUICK, method="realign")
    return sanitize(folder / "backdoored.onnx", folder / "pictures.npz", output=out, run=run), out


def scores(path: Path, pictures: np.ndarray) -> np.ndarray:
    """What a user of the file gets, [n, 1]."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": (pictures / 255).astype(np.float32)})[0])


def only_numbers_changed(before: Path, after: Path) -> bool:
    old, new = onnx.load(before), onnx.load(after)
    same = [(t.name, t.dims, t.data_type) for t in old.graph.initializer] == [
        (t.name, t.dims, t.data_type) for t in new.graph.initializer
    ]
    changed = list(old.graph.initializer) != list(new.graph.initializer)
    del old.graph.initializer[:], new.graph.initializer[:]
    return same and changed and old == new


def test_yes_is_named_as_the_target(found):
    assert (found.verdict, found.target_classes) == ("fail", (1,))
    assert found.model.class_names == ("no", "yes")
    assert [c.index_of_class for c in found.classes] == [0, 1]
    assert (found.before.acc, found.before.asr) == (1, 1)
    assert found.data.label_source == "given"


def test_the_verdict_is_that_of_two_outputs(found, folder):
    twin = audit(folder / "twin.onnx", folder / "pictures.npz", run=QUICK)
    assert (twin.verdict, twin.reasons) == (found.verdict, found.reasons)
    for one, two in zip(found.classes, twin.classes, strict=True):
        assert (one.norm, one.asr) == pytest.approx((two.norm, two.asr), rel=1e-3)


def test_a_clean_one_passes_and_needs_no_labels(folder, tmp_path):
    clean = folder / "clean.onnx"
    assert audit(clean, folder / "pictures.npz", run=QUICK).verdict == "pass"
    x, _ = one_score.halves_pictures()
    np.savez(tmp_path / "unlabelled.npz", x=x)
    unlabelled = audit(clean, tmp_path / "unlabelled.npz", run=QUICK)
    assert (unlabelled.verdict, unlabelled.data.label_source) == ("pass", "model")
    drawn = audit(folder / "backdoored.onnx", None, run=QUICK)
    assert drawn.data.label_source == "synthesised"


def test_who_gives_few_pictures_of_few_classes_is_told_what_that_is_worth(folder):
    run, inputs = replace(QUICK, calibration=None), InputOptions(per_class=1)
    record = audit(folder / "clean.onnx", folder / "pictures.npz", inputs=inputs, run=run)
    (said,) = [w for w in record.warnings if "most of these are not told" in w]
    assert said.startswith("with 2 classes and 2 pictures")
    assert said.endswith("give 10 pictures or more")


def test_a_repaired_file_keeps_its_graph_and_its_one_score(repaired, folder):
    record, out = repaired
    assert (record.verdict, record.repair.status, record.repair.method) == ("fail", "repaired", "realign")
    assert record.repair.masked_vs_baked < 1e-4
    assert only_numbers_changed(folder / "backdoored.onnx", out)
    x, y = one_score.halves_pictures()
    stamped = x.copy()
    stamped[:, *planted.WIDE_CORNER] = 255
    before, after = (scores(path, stamped) for path in (folder / "backdoored.onnx", out))
    assert before.shape == after.shape == (len(x), 1)
    assert (before > 0.5).all()
    np.testing.assert_array_equal(after[:, 0] > 0.5, y == 1)
    np.testing.assert_array_equal(scores(out, x)[:, 0] > 0.5, y == 1)


def test_units_that_are_off_are_off_in_the_file(folder, tmp_path):
    out, run = tmp_path / "off.onnx", replace(QUICK, method="prune")
    record = sanitize(
        folder / "backdoored.onnx", folder / "pictures.npz", output=Output(out, keep_partial=True), run=run
    )
    assert [u.channel for u in record.units.off] == [2]
    assert record.repair.masked_vs_baked < 1e-6
    assert only_numbers_changed(folder / "backdoored.onnx", out)


def test_verify_and_the_gate_believe_the_repaired_file(repaired, folder, tmp_path):
    record, out = repaired
    told = verify(folder / "backdoored.onnx", out, folder / "pictures.npz", run=QUICK)
    assert (told.verdict, told.other_changes) == ("pass", ())
    assert (told.before.asr, told.agreement) == (1, 1)
    assert told.after.asr <= 0.2
    policy = load_policy(None)
    policy = policy.model_copy(update={"require": policy.require.model_copy(update={"calibrations": ["any"]})})
    for each, path, verdict in ((record, out, "pass"), (told, out, "pass")):
        stored = tmp_path / "stored.json"
        stored.write_text(json_text(each))
        check_model(load_record(stored), path)
        assert judge(load_record(stored), policy, today=datetime.date(2026, 1, 1)).verdict == verdict


def test_inspect_says_which_class_is_which(folder):
    record = inspect(folder / "backdoored.onnx")
    assert (record.readable, record.classes) == (True, 2)
    assert any("class 1 where it is above 0.5" in f.text for f in record.findings)


def test_a_masked_graph_has_two_logits(folder, tmp_path):
    record = mask(folder / "backdoored.onnx", output=tmp_path / "masked.onnx")
    assert (record.classes, record.taken_off) == (2, ("Sigmoid",))
    assert scores(tmp_path / "masked.onnx", one_score.halves_pictures()[0]).shape == (12, 2)


def test_a_bare_value_is_refused_in_one_line(folder, tmp_path):
    bare = tmp_path / "bare.onnx"
    onnx.save(one_score.ending_in(), bare)
    record = inspect(bare)
    assert not record.readable
    for run in (lambda: audit(bare, folder / "pictures.npz", run=QUICK), lambda: mask(bare, output=tmp_path / "m")):
        with pytest.raises(ModelError, match="append a Sigmoid if the value is a logit") as told:
            run()
        assert str(told.value) == record.reason
        assert "\n" not in record.reason
