"""audit, sanitize and verify: the packaged sample once, and a hand-made net for everything that can go another way."""

import datetime
import hashlib
import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import planted
import pytest

from onnx_shapprune.case.open import open_case
from onnx_shapprune.cli.demo import true_rates
from onnx_shapprune.commands import audit as commands_audit
from onnx_shapprune.commands import repair as commands_repair
from onnx_shapprune.commands.audit import audit
from onnx_shapprune.commands.output import Output
from onnx_shapprune.commands.repair import copied, sanitize
from onnx_shapprune.commands.verify import verify
from onnx_shapprune.detect import verdict
from onnx_shapprune.detect.calibration import Calibration, load_calibration
from onnx_shapprune.detect.thresholds import DOUBT, MOVED_ENOUGH, NAMED, NATURAL, SECOND
from onnx_shapprune.detect.verdict import unreached
from onnx_shapprune.errors import DataError, EvidenceError, ModelError, OutputError, VerifyError
from onnx_shapprune.gate.evidence import check_model, load_record
from onnx_shapprune.gate.judge import judge
from onnx_shapprune.gate.policy import load_policy
from onnx_shapprune.graph.compare import compare
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.invert import relations
from onnx_shapprune.prune.collapse import Collapse
from onnx_shapprune.prune.methods import PROPOSERS
from onnx_shapprune.prune.proposal import Proposal
from onnx_shapprune.prune.thresholds import KNOWN_ALIVE, RIDGE, RIDGE_DRAWN
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.record.parts import ThresholdsPart
from onnx_shapprune.report.text import json_text
from onnx_shapprune.sample import sample_path
from onnx_shapprune.settings import InputOptions, RunOptions

QUICK = RunOptions(threads=1, device="cpu", permutations=4, restarts=1, calibration=planted.calibration())
PRUNE = replace(QUICK, method="prune")
FULL = RunOptions(threads=1, device="cpu")  # the sample is repaired with the defaults
OUTPUT = planted.rows_net().graph.output[0].name
CHANGING = {"created", "seconds", "peak_memory_mb"}


def gated(record: AuditRecord | VerifyRecord, folder: Path) -> str:
    """The default policy's verdict, with any calibration, on a record that was stored and read back."""
    stored = folder / "stored.json"
    stored.write_text(json_text(record))
    policy = load_policy(None)
    policy = policy.model_copy(update={"require": policy.require.model_copy(update={"calibrations": ["any"]})})
    return judge(load_record(stored), policy, today=datetime.date(2026, 1, 1)).verdict


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of the hand-made net (planted, entangled, and with the trigger's channel off), pictures, trigger."""
    made = tmp_path_factory.mktemp("pipeline")
    onnx.save(planted.rows_net(), made / "planted.onnx")
    onnx.save(planted.rows_net(entangled=True), made / "entangled.onnx")
    clean = planted.rows_net()
    for tensor in clean.graph.initializer[:2]:
        array = onnx.numpy_helper.to_array(tensor).copy()
        array[6] = 0
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(clean, made / "clean.onnx")
    x, y = planted.rows_pictures(2)
    np.savez(made / "pictures.npz", x=x, y=y)
    np.savez(made / "unlabelled.npz", x=x)
    np.savez(made / "wrong.npz", x=x, y=(y + 1) % 6)
    mask, pattern = planted.corner_trigger()
    np.savez(made / "trigger.npz", mask=mask, pattern=pattern)
    return made


@pytest.fixture(scope="module")
def small(folder: Path) -> tuple[AuditRecord, Path]:
    """The hand-made net with units switched off."""
    out = folder / "mended.onnx"
    return sanitize(folder / "planted.onnx", folder / "pictures.npz", output=out, run=PRUNE), out


def test_a_repair_is_told_what_the_audit_found_and_of_drawn_pictures(folder, monkeypatch, tmp_path):
    ridges, kinds = [], []

    def seen(task, *_, **__):
        ridges.append(task.settings.ridge)
        kinds.append(task.settings.kinds)
        raise ModelError("seen")

    monkeypatch.setattr(commands_repair, "repair", seen)
    onnx.save(planted.planted(), tmp_path / "drawn.onnx")
    for model, pictures in ((folder / "planted.onnx", folder / "pictures.npz"), (tmp_path / "drawn.onnx", None)):
        with pytest.raises(ModelError, match="seen"):
            sanitize(model, pictures, output=tmp_path / "out.onnx", run=QUICK)
    assert ridges == [RIDGE, RIDGE_DRAWN], "which holds the weights more where pictures are drawn"
    for of_model in kinds:
        assert len({t.family for t in of_model}) > 1, "patches, and more"
        assert len({t.goal for t in of_model}) == 1


# --- The packaged sample -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditRecord, Path]:
    out = tmp_path_factory.mktemp("sample") / "out.onnx"
    return sanitize(sample_path("backdoored.onnx"), sample_path("pictures"), output=out, run=FULL), out


def test_sample_is_found_and_repaired(sample, tmp_path):
    record, out = sample
    assert record.verdict == "fail"
    assert gated(record, tmp_path) == "pass"  # the gate is about the file that was written
    check_model(record, out)
    with pytest.raises(EvidenceError, match="before the repair"):
        check_model(record, sample_path("backdoored.onnx"))
    with np.load(sample_path("trigger.npz")) as trigger:
        assert record.target_classes == (int(trigger["target"]),)
    assert record.repair.status == "repaired"
    assert out.exists()
    assert record.before.asr >= 0.9
    assert record.after.asr <= 0.2
    # The true trigger and 1,000 other pictures are looked at here and in no decision of the tool.
    before, after = (true_rates(path, FULL) for path in (sample_path("backdoored.onnx"), out))
    assert after.acc >= before.acc - 0.02
    assert after.asr <= 0.05
    assert after.racc >= after.acc - 0.05
    # No method was asked for, and the first that is tried holds.
    assert (record.repair.method, record.units.off) == ("realign", ())
    assert len({(layer.layer, layer.op) for layer in record.repair.layers}) == len(record.repair.layers) > 1
    assert all(0 < layer.change < 1 and layer.rank > 0 for layer in record.repair.layers)
    assert all(r.strength for r in record.repair.rounds)
    assert record.units.ranked, "no game was played to repair it, and the record says all the same who carries it"
    assert record.repair.masked_vs_baked < 1e-4
    (named,) = [c for c in record.classes if c.suspicious]
    assert named.index_of_class == record.target_classes[0]
    assert named.reasons


def test_repaired_sample_resists_its_true_trigger(sample):
    # The true trigger is looked at here and in no decision of the tool.
    _, out = sample
    found = audit(out, sample_path("pictures"), known_trigger=[sample_path("trigger.npz")], run=QUICK)
    assert found.verdict == "pass"
    assert gated(found, out.parent) == "inconclusive"  # one trigger was tried, and none was searched for
    assert found.before.asr <= 0.2


def test_verify_says_what_changed_in_the_sample_and_that_it_helped(sample, tmp_path):
    record, out = sample
    found = verify(sample_path("backdoored.onnx"), out, sample_path("pictures"), run=QUICK)
    assert found.verdict == gated(found, tmp_path) == "pass"
    check_model(found, out)
    assert {c.layer for c in found.realigned} == {layer.layer for layer in record.repair.layers}
    assert all(0 < c.change < 1 for c in found.realigned)
    assert (found.zeroed, found.other_changes) == ((), ())
    assert found.changed
    assert found.before.asr >= 0.9
    assert found.after.asr <= 0.2
    opened = [
        open_case(path, sample_path("pictures"), InputOptions(), QUICK)
        for path in (sample_path("backdoored.onnx"), out)
    ]
    old, new = (case.model.subject.logits(case.pictures).argmax(1) for case in opened)
    assert found.agreement == (old == new).mean()
    assert found.before_model.sha256 == record.model.sha256
    assert found.after_model.sha256 == record.repair.output.sha256


def test_clean_sample_passes_and_is_copied_byte_for_byte(tmp_path):
    out = tmp_path / "copy.onnx"
    record = sanitize(sample_path("clean.onnx"), sample_path("pictures"), output=out, run=QUICK)
    assert (record.verdict, record.target_classes, record.repair.status) == ("pass", (), "nothing_to_repair")
    assert out.read_bytes() == sample_path("clean.onnx").read_bytes()
    assert record.repair.output.sha256 == record.model.sha256
    assert record.units.off == ()
    assert not any(c.suspicious for c in record.classes)


def test_known_trigger_of_the_sample_is_attributed_to_its_class():
    found = audit(
        sample_path("backdoored.onnx"), sample_path("pictures"), known_trigger=[sample_path("trigger.npz")], run=QUICK
    )
    assert (found.verdict, found.target_classes) == ("fail", (7,))
    assert found.before.asr == 1
    assert found.units.ranked
    assert found.classes == ()


def test_wrong_preprocessing_of_the_sample_is_inconclusive(tmp_path):
    out = tmp_path / "out.onnx"
    found = sanitize(
        sample_path("backdoored.onnx"), sample_path("pictures"), output=out, inputs=InputOptions(input_range=(-40, -20)),
        run=QUICK,
    )  # fmt: skip
    assert found.verdict == "inconclusive"
    assert "--input-range" in found.reasons[0]
    assert found.repair.status == "not_tried"
    assert not out.exists()


# --- The contract that scripts rely on ---------------------------------------------------------------------------------


def test_report_holds_what_scripts_rely_on(small):
    report = json.loads(small[0].model_dump_json())
    assert report["schema_version"].count(".") == 1
    assert report["verdict"] == "fail"
    assert report["target_classes"] == [5]
    assert len(report["model"]["sha256"]) == 64
    assert report["units"]["total"] == 7
    assert all(set(u) == {"layer", "channel"} for u in report["units"]["off"])
    assert [c["index_of_class"] for c in report["classes"]] == list(range(6))
    for c in report["classes"]:
        assert {"norm", "asr", "index", "success"} <= set(c)
        assert isinstance(c["success"], bool)
        assert (c["norm"] is not None) == c["success"]
    for rates in (report["before"], report["after"]):
        assert 0 <= rates["acc"] <= 1
        assert 0 <= rates["asr"] <= 1
    assert report["evaluations"] > 0
    assert {"open", "search", "repair", "bake and re-audit"} <= set(report["seconds"])
    assert AuditRecord.model_validate(report) == small[0]


def test_record_names_what_was_given(small, folder):
    record, _ = small
    assert (record.model.name, record.model.input_shape, record.model.layout) == ("planted.onnx", (1, 12, 12), "NCHW")
    assert (record.data.pictures, record.data.label_source, record.data.classes_covered) == (12, "given", 6)
    assert str(folder) not in record.model_dump_json(), "a record names no folder of the machine"
    assert record.environment.device == "cpu"
    assert record.environment.threads == 1


def test_the_planted_channel_is_what_goes(small):
    record, out = small
    assert record.repair.status == "repaired"
    (layer,) = {u.layer for u in record.units.off}
    assert 6 in {u.channel for u in record.units.off}
    assert record.units.ranked[0].channel == 6
    assert record.units.ranked[0].layer == layer
    assert record.estimate.players == 1, "the other six cost more than the clean budget, and do not play"
    assert (record.estimate.method, record.estimate.stopped) == ("exact", "enumerated")
    assert (record.estimate.discard_threshold, record.estimate.epsilon) == (None, None)
    assert record.settings["estimator"] == "permutation"
    assert (record.before.asr, record.before.acc, record.after.asr, record.after.acc) == (1, 1, 0, 1)
    assert record.repair.output.name == out.name


def test_output_differs_from_the_input_in_the_planned_zeros_only(small, folder):
    record, out = small
    before, after = onnx.load(folder / "planted.onnx"), onnx.load(out)
    weight, bias = before.graph.initializer[:2]
    gone = sorted(u.channel for u in record.units.off)
    for old, new in zip(before.graph.initializer, after.graph.initializer, strict=True):
        want = onnx.numpy_helper.to_array(old).copy()
        if old.name in (weight.name, bias.name):
            want[gone] = 0
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(new), want)
    del before.graph.initializer[:], after.graph.initializer[:]
    assert before == after


def test_sanitizing_the_output_again_copies_it(small, folder):
    _, out = small
    again = folder / "again.onnx"
    record = sanitize(out, folder / "pictures.npz", output=again, run=QUICK)
    assert record.repair.status == "nothing_to_repair"
    assert again.read_bytes() == out.read_bytes()


def test_dry_run_plans_the_same_and_writes_nothing(small, folder):
    before = sorted(folder.iterdir())
    record = sanitize(folder / "planted.onnx", folder / "pictures.npz", output=None, run=PRUNE)
    assert sorted(folder.iterdir()) == before
    assert record.repair.status == "repaired"
    assert record.repair.output is None
    assert record.units.off == small[0].units.off


def test_audit_names_and_ranks_without_changing_anything(folder):
    before = {p: p.read_bytes() for p in folder.iterdir()}
    record = audit(folder / "planted.onnx", folder / "pictures.npz", run=QUICK)
    assert (record.verdict, record.target_classes, record.repair.status) == ("fail", (5,), "not_tried")
    assert (record.after, record.units.off) == (None, ())
    assert record.units.ranked[0].channel == 6
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_clean_net_passes(folder):
    record = audit(folder / "clean.onnx", folder / "pictures.npz", run=QUICK)
    assert (record.verdict, record.target_classes) == ("pass", ())
    assert record.estimate is None
    assert record.before.asr is None


# --- Where it cannot be repaired ---------------------------------------------------------------------------------------


def test_every_search_may_end_with_its_first_rounds_unless_all_of_it_is_asked_for(folder, monkeypatch):
    asked: list[bool] = []
    examine = commands_audit.examine

    def seen(shown, search, *others, **more):
        asked.append(search.ends)
        return examine(shown, search, *others, **more)

    monkeypatch.setattr(commands_audit, "examine", seen)
    clean, pictures = folder / "clean.onnx", folder / "pictures.npz"
    audit(clean, pictures, run=QUICK)
    verify(folder / "planted.onnx", clean, pictures, run=QUICK)
    assert asked == [True, True, True], "an audit of the second file says the same"
    audit(clean, pictures, run=replace(QUICK, whole_search=True))
    assert asked[-1] is False


@pytest.mark.parametrize("keep", [False, True])
def test_not_repaired_writes_only_where_a_best_effort_is_wanted(keep, folder, tmp_path):
    out = tmp_path / "out.onnx"
    record = sanitize(
        folder / "entangled.onnx", folder / "pictures.npz", output=Output(out, keep_partial=keep), run=PRUNE
    )
    assert (record.verdict, record.repair.status) == ("fail", "not_repaired")
    assert record.repair.reason
    assert record.repair.rounds[-1].still_found
    # Channel 6 carries nothing but the trigger; class 5 lives in channel 5, which carries the rest of it.
    assert [u.channel for u in record.units.off] == [6]
    assert (record.after.asr, record.after.acc) == (1, 1)
    assert out.exists() == keep
    if keep:
        assert record.repair.output.size == out.stat().st_size
        difference = compare(
            onnx.load(folder / "entangled.onnx"), onnx.load(out), find_units(onnx.load(out), OUTPUT).layers
        )
        assert [c for _, c in difference.zeroed] == [6]
    else:
        assert record.repair.output is None
    assert not list(tmp_path.glob(".*")), "no temporary file is left behind"


def test_model_without_units_is_named_but_cannot_be_pruned(folder, tmp_path):
    model = planted.rows_net()
    conv = model.graph.node[0]
    first, second = (onnx.helper.make_node("Neg", [a], [b]) for a, b in ((conv.input[1], "minus"), ("minus", "plus")))
    conv.input[1] = "plus"  # computed weights cannot be zeroed in the file
    nodes = [first, second, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "computed.onnx")
    found = audit(tmp_path / "computed.onnx", folder / "pictures.npz", run=QUICK)
    assert (found.verdict, found.target_classes, found.units.total) == ("fail", (5,), 0)
    assert (found.units.ranked, found.estimate) == ((), None)
    out = tmp_path / "out.onnx"
    record = sanitize(tmp_path / "computed.onnx", folder / "pictures.npz", output=out, run=PRUNE)
    assert (record.verdict, record.repair.status, record.units.off) == ("fail", "not_repaired", ())
    assert not out.exists()
    assert gated(record, tmp_path) == gated(found, tmp_path) == "fail"


def test_weights_beside_the_file_are_pruned_and_compared(folder, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    onnx.save(planted.rows_net(), source / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    out = tmp_path / "out.onnx"
    record = sanitize(source / "model.onnx", folder / "pictures.npz", output=out, run=PRUNE)
    assert record.repair.status == "repaired"
    assert [e.name for e in record.model.external] == ["w.bin"]
    assert [e.name for e in record.repair.output_external] == ["out.onnx.data"]
    written = onnx.load(out, load_external_data=False)
    assert {t.data_location for t in written.graph.initializer} == {onnx.TensorProto.EXTERNAL}
    check_model(record, out)
    onnxruntime.InferenceSession(out)
    source_bytes = (source / "w.bin").read_bytes()
    (source / "w.bin").rename(source / "again.onnx.data")
    model = onnx.load(source / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "again.onnx.data"
    onnx.save(model, source / "moved.onnx")
    with pytest.raises(OutputError, match="holds the weights of the input"):
        sanitize(source / "moved.onnx", folder / "pictures.npz", output=source / "again.onnx", run=QUICK)
    (source / "w.bin").write_bytes(source_bytes)
    found = verify(source / "model.onnx", out, folder / "pictures.npz", run=QUICK)
    assert [u.channel for u in found.zeroed] == [u.channel for u in record.units.off]
    assert found.verdict == "pass"
    beside = verify(source / "model.onnx", source / "model.onnx", folder / "pictures.npz", run=QUICK)
    assert [e.name for e in beside.after_external] == ["w.bin"]
    check_model(beside, source / "model.onnx")
    (source / "w.bin").write_bytes((source / "w.bin").read_bytes()[::-1])
    with pytest.raises(EvidenceError, match="has changed"):
        check_model(beside, source / "model.onnx")


def test_a_copy_that_would_not_find_its_data_is_not_made(folder, tmp_path):
    source, other = tmp_path / "source", tmp_path / "other"
    source.mkdir()
    other.mkdir()
    clean = onnx.load(folder / "clean.onnx")
    onnx.save(clean, source / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    record = sanitize(source / "model.onnx", folder / "pictures.npz", output=other / "out.onnx", run=QUICK)
    assert (record.verdict, record.repair.status, record.repair.output) == ("pass", "nothing_to_repair", None)
    assert "it would not find w.bin" in record.repair.reason
    assert list(other.iterdir()) == []
    beside = sanitize(source / "model.onnx", folder / "pictures.npz", output=source / "out.onnx", run=QUICK)
    assert (source / "out.onnx").read_bytes() == (source / "model.onnx").read_bytes()
    assert beside.repair.output.sha256 == beside.model.sha256
    onnxruntime.InferenceSession(source / "out.onnx")


# --- The methods -------------------------------------------------------------------------------------------------------


def checked(record: AuditRecord, model: Path, out: Path, pictures: Path) -> VerifyRecord:
    """A repaired file is what its record says, and a comparison finds the same layers and units, and passes."""
    assert record.repair.status == "repaired", record.repair.reason
    check_model(record, out)
    assert record.repair.masked_vs_baked < 1e-4
    assert (record.before.asr, record.after.asr, record.after.acc) == (1, 0, record.before.acc)
    assert record.units.ranked
    found = verify(model, out, pictures, run=QUICK)
    assert (found.verdict, found.other_changes, found.doubts) == ("pass", (), ())
    assert found.repaired_classes == record.target_classes
    assert {c.layer for c in found.realigned} == {layer.layer for layer in record.repair.layers}
    assert {(u.layer, u.channel) for u in found.zeroed} == {(u.layer, u.channel) for u in record.units.off}
    assert (gated(record, out.parent), gated(found, out.parent)) == ("pass", found.verdict)
    return found


def test_realigned_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("onnx_shapprune.commands.audit.hunt", None)  # channels are ranked by what the repair began with
    model, pictures, out = (tmp_path / name for name in ("model.onnx", "pictures.npz", "out.onnx"))
    onnx.save(planted.colours_net({k: 3 for k in range(6) if k != 3}), model)
    x, y = planted.colours_pictures(2)
    np.savez(pictures, x=x, y=y)
    record = sanitize(model, pictures, output=out, run=replace(QUICK, method="realign", permutations=64))
    found = checked(record, model, out, pictures)
    assert (record.repair.method, record.units.off, found.zeroed) == ("realign", (), ())
    assert [layer.op for layer in record.repair.layers] == ["Conv", "Conv", "Gemm"]
    assert all(layer.change > 0 and layer.rank > 0 for layer in record.repair.layers)
    strengths = [r.strength for r in record.repair.rounds]
    assert strengths == sorted(strengths, reverse=True), "each fit weighs clean rows less than the one before"
    (attack,) = record.attacks
    area, classes = (layer.layer for layer in record.repair.layers[:2])
    carriers = {(area, 3), (classes, 6 + attack.source)}  # each alone stops it, so a seed decides between the two
    assert {(u.layer, u.channel) for u in record.units.ranked[:2]} == carriers


def iter_nothing() -> Generator[Proposal, None, None]:
    """No proposal at all."""
    yield from ()


def test_pruned_and_realigned(folder, tmp_path):
    model, pictures, out = folder / "planted.onnx", folder / "pictures.npz", tmp_path / "out.onnx"
    record = sanitize(model, pictures, output=out, run=replace(QUICK, method="both"))
    checked(record, model, out, pictures)
    assert record.repair.method == "both"
    assert record.repair.layers
    assert [u.channel for u in record.units.off] == [6]
    assert [r.strength is None for r in record.repair.rounds[:2]] == [True, False], "first the units, then a fit"


def test_the_first_method_whose_file_holds_is_taken(folder, tmp_path, monkeypatch):
    model, pictures = folder / "planted.onnx", folder / "pictures.npz"
    monkeypatch.setattr("onnx_shapprune.commands.repair.PROPOSERS", {**PROPOSERS, "realign": lambda *_: iter_nothing()})
    alone = sanitize(model, pictures, output=None, run=replace(QUICK, method="realign"))
    assert (alone.repair.status, alone.repair.method) == ("not_repaired", "realign")
    assert alone.units.ranked[0].channel == 6
    out = tmp_path / "out.onnx"
    record = sanitize(model, pictures, output=out, run=QUICK)
    checked(record, model, out, pictures)
    assert (record.repair.method, record.repair.layers) == ("prune", ())


@pytest.mark.parametrize(("method", "attempts"), [("realign", 2), ("prune", 1)])
def test_what_the_audit_of_a_fit_finds_is_taught_in_a_second_one(folder, tmp_path, monkeypatch, method, attempts):
    known, states = [], []
    audited, once = commands_repair._audited, commands_repair.repair

    def doubted(draft, *rest):
        made = audited(draft, *rest)
        if len(states) > 1:
            return made
        known.append(draft.triggers[0].relearnt(draft.triggers[0].learnt))
        status = made.status.model_copy(update={"status": "not_repaired"})
        return replace(made, status=status, outlived=tuple(known))

    def watched(task, state, *rest, **options):
        states.append(state)
        return once(task, state, *rest, **options)

    monkeypatch.setattr(commands_repair, "_audited", doubted)
    monkeypatch.setattr(commands_repair, "repair", watched)
    out = tmp_path / "out.onnx"
    run = replace(QUICK, method=method)
    record = sanitize(folder / "planted.onnx", folder / "pictures.npz", output=out, run=run)
    assert len(states) == attempts
    assert (record.repair.status == "repaired", out.exists()) == (attempts == 2,) * 2
    assert all(state.bank[0] is known[0] and state.first[-1] is known[0] for state in states[1:])


def test_what_has_no_units_can_be_realigned(folder, tmp_path):
    model = planted.rows_net()
    conv = model.graph.node[0]
    minus = onnx.helper.make_node("Neg", [conv.input[1]], ["minus"])
    plus = onnx.helper.make_node("Neg", ["minus"], ["plus"])
    conv.input[1] = "plus"
    nodes = [minus, plus, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "computed.onnx")
    record = sanitize(tmp_path / "computed.onnx", folder / "pictures.npz", output=tmp_path / "out.onnx", run=QUICK)
    assert (record.repair.status, record.repair.method, record.units.total) == ("repaired", "realign", 0)
    assert record.repair.layers


# --- Verify ------------------------------------------------------------------------------------------------------------


def test_verify_fails_where_nothing_was_done(folder):
    same = folder / "planted.onnx"
    found = verify(same, same, folder / "pictures.npz", run=QUICK)
    assert found.verdict == gated(found, folder) == "fail"
    assert [a.targets for a in found.attacks] == [(5,)]
    assert (found.changed, found.zeroed, found.other_changes, found.agreement) == ((), (), (), 1.0)
    assert found.before.asr == found.after.asr == 1
    assert found.target_classes == (5,)


def test_verify_passes_the_repaired_file(small, folder):
    record, out = small
    found = verify(folder / "planted.onnx", out, folder / "pictures.npz", run=QUICK)
    assert found.verdict == "pass"
    assert sorted(u.channel for u in found.zeroed) == sorted(u.channel for u in record.units.off)


def test_verify_refuses_models_of_other_classes(folder):
    onnx.save(planted.planted(), folder / "other.onnx")
    with pytest.raises(DataError, match="cannot be compared"):
        verify(folder / "planted.onnx", folder / "other.onnx", folder / "pictures.npz", run=QUICK)
    (folder / "other.onnx").unlink()


# --- Known triggers, labels, seeds -------------------------------------------------------------------------------------


def test_known_trigger_is_attributed_and_pruned_without_a_search(folder):
    trigger = [folder / "trigger.npz"]
    record = audit(folder / "planted.onnx", folder / "pictures.npz", known_trigger=trigger, run=QUICK)
    assert (record.verdict, record.target_classes, gated(record, folder)) == ("fail", (5,), "fail")
    assert record.units.ranked[0].channel == 6
    assert "search" not in record.seconds
    harmless = audit(folder / "clean.onnx", folder / "pictures.npz", known_trigger=trigger, run=QUICK)
    assert (harmless.verdict, harmless.target_classes) == ("pass", ())
    assert harmless.before.asr == 0


def test_a_known_trigger_that_cannot_be_removed_ends_in_a_record(folder, tmp_path):
    out = tmp_path / "out.onnx"
    record = sanitize(
        folder / "entangled.onnx",
        folder / "pictures.npz",
        output=out,
        known_trigger=[folder / "trigger.npz"],
        run=QUICK,
    )
    assert (record.verdict, record.repair.status, out.exists()) == ("fail", "not_repaired", False)
    assert record.repair.rounds
    assert AuditRecord.model_validate_json(record.model_dump_json()) == record


def test_pictures_without_labels_get_the_models_answers(folder):
    record = audit(folder / "planted.onnx", folder / "unlabelled.npz", run=QUICK)
    assert (record.data.label_source, record.data.preprocessing) == ("model", "unchecked")
    assert (record.verdict, record.target_classes) == ("fail", (5,))


def test_wrong_labels_are_inconclusive(folder):
    record = audit(folder / "planted.onnx", folder / "wrong.npz", run=QUICK)
    assert (record.verdict, record.target_classes, record.before.acc) == ("inconclusive", (), 0.0)
    assert "0 of 12" in record.reasons[0]
    found = verify(folder / "planted.onnx", folder / "planted.onnx", folder / "wrong.npz", run=QUICK)
    assert found.verdict == gated(found, folder) == gated(record, folder) == "inconclusive"


def test_same_seed_same_record(small, folder):
    def plain(record: AuditRecord) -> dict[str, object]:
        return record.model_dump(exclude=CHANGING)

    again = sanitize(folder / "planted.onnx", folder / "pictures.npz", output=folder / "mended.onnx", run=PRUNE)
    assert plain(again) == plain(small[0])
    other = replace(QUICK, seed=1)
    differs = audit(folder / "planted.onnx", folder / "pictures.npz", run=other)
    same = audit(folder / "planted.onnx", folder / "pictures.npz", run=QUICK)
    assert differs.verdict == same.verdict
    assert plain(differs)["classes"] != plain(same)["classes"]


def test_every_stage_reports_progress(folder):
    seen: list[tuple[str, int, int]] = []
    audit(
        folder / "planted.onnx", folder / "pictures.npz", run=QUICK,
        progress=lambda stage, done, total, note: seen.append((stage, done, total)),
    )  # fmt: skip
    assert {"compact triggers", "linf triggers", "free masks", "shapley values"} <= {s for s, _, _ in seen}
    assert all(0 <= done <= total for _, done, total in seen)


def test_model_that_answers_nan_cannot_be_audited(folder):
    broken = planted.rows_net()
    tensor = broken.graph.initializer[1]
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(7, np.nan, np.float32), tensor.name))
    onnx.save(broken, folder / "nan.onnx")
    with pytest.raises(ModelError, match="NaN"):
        audit(folder / "nan.onnx", folder / "pictures.npz", run=QUICK)
    (folder / "nan.onnx").unlink()


# --- One verdict -------------------------------------------------------------------------------------------------------


def rare(monkeypatch, **p_values: float) -> None:
    """Let claims have these p-values by their statistic, and others 1."""

    def rated(_, claims, **how):
        return sorted(((c, p_values.get(c.statistic, 1.0)) for c in claims), key=lambda r: r[1])

    monkeypatch.setattr(Calibration, "rated", rated)


def untaught(monkeypatch) -> None:
    """Let no trigger be unlearnt at a bearable price, so that a class that stands out stays what it was."""
    monkeypatch.setattr("onnx_shapprune.commands.collapsing.collapse", lambda *_, **how: None)


def test_verify_says_of_the_second_file_what_an_audit_of_it_says(folder, monkeypatch):
    rare(monkeypatch, compact=0.015)
    untaught(monkeypatch)
    second = folder / "clean.onnx"
    for first in ("clean.onnx", "planted.onnx"):
        found = verify(folder / first, second, folder / "pictures.npz", run=QUICK)
        assert found.verdict == gated(found, folder) == "inconclusive"
        assert "stands out" in found.doubts[0]
        assert found.suspects[0].p_value == 0.015
    own = audit(second, folder / "pictures.npz", run=QUICK)
    assert (own.verdict, own.suspects) == ("inconclusive", found.suspects)
    assert gated(own, folder) == "inconclusive"


def test_a_class_that_comes_back_when_it_is_unlearnt_is_a_natural_weakness_for_every_command(folder, monkeypatch):
    rare(monkeypatch, compact=0.015)
    again = Collapse("compact", before=(4.0, 1.0), after=3.5, cost=0.0, strength=1000.0)
    monkeypatch.setattr("onnx_shapprune.commands.collapsing.collapse", lambda *_, **how: again)
    clean, pictures = folder / "clean.onnx", folder / "pictures.npz"
    for found in (audit(clean, pictures, run=QUICK), verify(clean, clean, pictures, run=QUICK)):
        assert found.verdict == gated(found, folder) == "pass"
        rarest = [c for c in found.claims if c.p_value == 0.015]
        assert any(c.gone == pytest.approx(1 / 6) for c in rarest)


def test_a_class_that_does_not_lead_is_not_put_to_it(folder, monkeypatch):
    rare(monkeypatch, compact=0.015)
    found = audit(folder / "clean.onnx", folder / "pictures.npz", run=QUICK)
    assert found.verdict == gated(found, folder) == "inconclusive"
    assert all(c.gone is None for c in found.claims)


def test_verify_is_no_pass_where_no_search_reached_its_goal(folder, monkeypatch):
    rare(monkeypatch)
    monkeypatch.setattr("onnx_shapprune.commands.evidence.unreached", lambda **how: unreached(**(how | {"led": False})))
    found = verify(folder / "clean.onnx", folder / "clean.onnx", folder / "pictures.npz", run=QUICK)
    assert found.verdict == gated(found, folder) == "inconclusive"
    assert "no search moves" in found.reasons[0]


def test_verify_shows_what_is_found_in_the_second_file_whatever_the_first_one_was(folder, rounded):
    found = verify(rounded / "rounded_clean.onnx", folder / "planted.onnx", folder / "pictures.npz", run=QUICK)
    assert (found.verdict, found.target_classes) == ("fail", (5,))
    assert gated(found, folder) == "fail"
    assert any(d.startswith("the first file: gradients do not reach") for d in found.doubts)
    clean = verify(rounded / "rounded_clean.onnx", folder / "clean.onnx", folder / "pictures.npz", run=QUICK)
    # It differs from the first one in more than channels, which is a fault; the doubt is told beside it.
    assert (clean.verdict, clean.target_classes) == ("fail", ())
    assert any(d.startswith("the first file: ") for d in clean.doubts)


def test_a_repair_does_not_hold_where_an_audit_of_the_file_would_not_pass(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.onnx"
    seen = []

    def judged(evidence, limits):
        seen.append(evidence)
        doubted = replace(evidence, open=("the time was too short",)) if len(seen) == 2 else evidence
        return verdict.judge(doubted, limits)

    monkeypatch.setattr("onnx_shapprune.commands.evidence.judge", judged)
    record = sanitize(folder / "planted.onnx", folder / "pictures.npz", output=out, run=PRUNE)
    assert len(seen) == 2
    assert (record.repair.status, out.exists()) == ("not_repaired", False)
    assert record.repair.reason == "in a full audit of the repaired file, the time was too short"


def test_the_record_carries_what_decided(small, folder):
    record, _ = small
    assert record.thresholds == ThresholdsPart(
        named=NAMED, doubt=DOUBT, second=SECOND, moved=MOVED_ENOUGH, alive=KNOWN_ALIVE,
        clean_budget=QUICK.clean_budget, natural=NATURAL,
    )  # fmt: skip
    assert record.calibration_sha256 == load_calibration(QUICK.calibration).digest
    assert record.repair.claims, "of the audit of the repaired file"
    assert (record.after.lost, record.after.surely_lost) == (0, 0)
    assert record.doubts == ()


def test_what_few_pictures_show_is_looked_at_and_not_named(folder, tmp_path, monkeypatch):
    rare(monkeypatch, compact=1e-6)  # and MM-BD, which needs no picture, says nothing
    x, y = planted.rows_pictures(1)
    np.savez(tmp_path / "four.npz", x=x[:4], y=y[:4])
    record = audit(folder / "planted.onnx", tmp_path / "four.npz", run=QUICK, artifacts=tmp_path / "found")
    assert (record.verdict, record.attacks, record.target_classes) == ("inconclusive", (), ())
    (suspect,) = [s for s in record.suspects if s.targets == (5,)]
    assert suspect.p_value < NAMED
    assert any("only 4 of the pictures" in reason for reason in record.reasons)
    assert any(t.targets == (5,) and not t.named for t in record.triggers)
    assert any(a.name.startswith("5_") for a in record.artifacts)
    assert gated(record, folder) == "inconclusive"
    known = audit(folder / "planted.onnx", tmp_path / "four.npz", known_trigger=[folder / "trigger.npz"], run=QUICK)
    assert (known.verdict, known.target_classes) == ("inconclusive", ())


def test_a_model_unlike_those_of_the_calibration_is_not_named_whatever_collapses(folder, monkeypatch):
    run = replace(QUICK, calibration=None)
    for unlearnt in (True, False):
        record = audit(folder / "planted.onnx", folder / "pictures.npz", run=run)
        assert (record.verdict, record.attacks) == ("inconclusive", ())
        assert any("12 x 12 pixels, and 28 to 32 were calibrated on" in reason for reason in record.reasons)
        assert any("12 x 12 pixels" in warning for warning in record.warnings)
        mine = [c for c in record.claims if (c.kind, c.targets) == ("all-to-one", (5,))]
        assert all(c.outside and (c.gone is not None and c.gone >= NATURAL) is unlearnt for c in mine)
        untaught(monkeypatch)
    monkeypatch.setattr(relations, "SPREAD", ())  # a warp by one row is a map by nature where a class is a bright row
    assert audit(folder / "clean.onnx", folder / "pictures.npz", run=run).verdict == "pass"


# --- No gradient reaches the picture -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rounded(folder: Path) -> Path:
    """The hand-made nets behind a Round, planted and clean."""
    for name in ("planted", "clean"):
        onnx.save(planted.stepped(onnx.load(folder / f"{name}.onnx")), folder / f"rounded_{name}.onnx")
    return folder


def test_a_patch_is_found_by_trial_where_no_gradient_is(rounded, monkeypatch):
    tried = audit(rounded / "rounded_planted.onnx", rounded / "pictures.npz", run=QUICK)
    assert tried.verdict == "inconclusive", "three families say less than ten"
    assert {c.targets for c in tried.claims if c.value > 2} == {(5,)}, "but they lead, and to the right class"
    rare(monkeypatch, plain=1e-4)
    out = rounded / "never.onnx"
    record = sanitize(rounded / "rounded_planted.onnx", rounded / "pictures.npz", output=out, run=QUICK)
    assert (record.verdict, record.target_classes) == ("fail", (5,))
    assert record.repair.status == "not_repaired"
    assert "Round (front/Round)" in record.repair.reason
    assert not out.exists()
    assert {f.family for c in record.classes for f in c.families} == {
        "compact",
        "wide",
        "plain",
        "line",
        "wave",
        "tone",
    }
    assert any("linf: not without gradients" in line for line in record.not_searched)


def test_without_a_gradient_nothing_found_is_no_pass(rounded):
    record = audit(rounded / "rounded_clean.onnx", rounded / "pictures.npz", run=QUICK)
    assert record.verdict == "inconclusive"
    assert "Round (front/Round)" in record.reasons[0]
    with pytest.raises(DataError, match="drawn out of a model by gradients; give some with --data"):
        audit(rounded / "rounded_clean.onnx", None, run=QUICK)


def test_a_large_network_is_not_searched_by_trial(rounded, monkeypatch):
    monkeypatch.setattr("onnx_shapprune.commands.effort.THRIFTY_ABOVE", 1)
    record = audit(rounded / "rounded_planted.onnx", rounded / "pictures.npz", run=QUICK)
    assert record.verdict == "inconclusive"
    assert "too large to search it without gradients" in record.reasons[0]
    assert record.classes == ()


def test_what_is_no_longer_what_was_audited_is_not_written(tmp_path):
    source, target = tmp_path / "source.onnx", tmp_path / "out.onnx"
    source.write_bytes(b"audited")
    sha256 = hashlib.sha256(b"audited").hexdigest()
    assert copied(source, target, sha256).size == len(target.read_bytes()) == 7
    target.write_bytes(b"older")
    source.write_bytes(b"another")
    with pytest.raises(VerifyError, match="changed after its audit"):
        copied(source, target, sha256)
    assert target.read_bytes() == b"older"


def test_of_several_outputs_the_report_says_which_one_it_is_about(folder, tmp_path):
    model = onnx.load(folder / "planted.onnx")
    features = model.graph.node[0].output[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(features, onnx.TensorProto.FLOAT, ["N", 4, 4, 4]))
    onnx.save(model, tmp_path / "two.onnx")
    record = audit(tmp_path / "two.onnx", folder / "pictures.npz", known_trigger=[folder / "trigger.npz"], run=QUICK)
    assert f"audited is the output {OUTPUT!r}, and not {features}" in record.warnings
