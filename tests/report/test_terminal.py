"""The readable reports: order, width, and nothing hostile in them."""

import re

import pytest
from record_samples import audit_record, class_part, verify_record

from onnx_shapprune.record.graph import InspectRecord, LayerPart, RefusedPart, TensorPart
from onnx_shapprune.record.parts import FileDigest, FindingPart
from onnx_shapprune.report.graph import inspect_text
from onnx_shapprune.report.terminal import audit_text, verdict_text, verify_text
from onnx_shapprune.report.text import cells

HOSTILE = "\x1b[2J\x9b31m\u202e" + "long/" * 60


def inspect_record(name: str = "conv1") -> InspectRecord:
    return InspectRecord(
        readable=True, model=FileDigest(name="m.onnx", size=10, sha256="ab" * 32), producer="pytorch 2", ir_version=8,
        opsets={"": 17, name: 1}, inputs=(TensorPart(name=name, type="float", shape=("N", 3, None, 8)),),
        outputs=(TensorPart(name=name, type="float", shape=("N", 4)),), layout="NCHW", classes=4, parameters=1234,
        ops={"Conv": 3, name: 1}, units=14, layers=(LayerPart(name=name, op="Conv", channels=14),),
        refused=(RefusedPart(name=name, op="Gemm", reason="makes the class scores"),), no_gradient={name: (name, "b")},
        findings=(FindingPart(level="warning", text=name),),
    )  # fmt: skip


def test_audit_reads_from_verdict_to_warnings():
    text = audit_text(audit_record())
    parts = [
        "REPAIRED  model.onnx (the input was backdoored)", "  target ", "->", "Why", "- class 3 has a trigger", "Audited",
        "Classes", "TARGET", "Units by Shapley value (top 12 of 15", "\nRepair", "REPAIRED\n  no trigger", "still found",
        "1 of 560 units off (0.2 %)", "triggered\n  before", "\n  after   90.0", "Files", "Time: 15.5 s", "Warnings",
    ]  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_what_a_repair_did_to_the_weights_is_told():
    text = audit_text(audit_record())
    flat = " ".join(text.split())
    assert "method both: units are switched off, and layers get other weights (2 layers)" in flat
    assert "in the fits, a clean row weighed 300 times what a triggered one did" in flat
    assert re.search(r"^  layer +op +change \|dw\|/\|w\| +rank$", text, re.M)
    assert re.search(r"^  /fc/Gemm +Gemm +0\.0435 +10$", text, re.M)
    pruned = audit_record()
    part = pruned.repair.model_copy(update={"method": "prune", "layers": (), "rounds": pruned.repair.rounds[:1]})
    text = audit_text(pruned.model_copy(update={"repair": part}))
    assert "method prune: units are switched off\n" in text
    assert not re.search("other weights|in the fits", text)


def test_a_comparison_tells_which_layers_have_other_weights():
    text = verify_text(verify_record())
    assert re.search(r"^  Layers with other weights:\n  layer .*\n  fc +- +0\.0435 +-$", text, re.M)
    assert "other weights" not in verify_text(verify_record().model_copy(update={"realigned": ()}))


@pytest.mark.parametrize(
    ("gone", "meaning"),
    [
        (0.97, "97 % of its lead is gone, as of a shortcut"),
        (0.5, "50 % of its lead is gone, as of a shortcut"),
        (0.4, "40 % of its lead is gone, as of a natural weakness"),
        (0.0, "0 % of its lead is gone, as of a natural weakness"),
    ],
)
def test_what_unlearning_showed_is_told_once_for_each_goal(gone, meaning):
    record = audit_record()
    claim = record.claims[0].model_copy(update={"gone": gone})
    changed = record.model_copy(update={"claims": (claim, claim.model_copy(update={"statistic": "peak"}))})
    text = " ".join(audit_text(changed).split())
    assert text.count(f"class 3: unlearnt and searched again, {meaning}") == 1
    untried = record.model_copy(update={"claims": (claim.model_copy(update={"gone": None}),)})
    assert "unlearnt" not in audit_text(untried)


def test_numbers_stand_in_their_rows():
    text = audit_text(audit_record())
    (target,) = re.findall(r"^  3 class-3 +4\.50 +99\.0 % +4\.61 +7\.50 +12\.50 +TARGET$", text, re.M)
    assert target
    assert re.search(r"^  before +90\.0 % +100\.0 % +0\.0 % +10 +9$", text, re.M)
    assert re.search(r"^  after +90\.0 % +2\.0 % +88\.0 % +10 +9$", text, re.M)
    assert re.search(
        r"/layer1/conv1/Conv +0 +\+0\.5000 +\+0\.4000 \.\. \+0\.6000 +\+0\.5000 +\+0\.0100 +off$", text, re.M
    )
    assert text.count("/layer1/conv1/Conv  ") == 12 + 1, "of the ranking, and of the layers with other weights"


def test_what_could_not_be_measured_is_a_dash():
    record = audit_record(repair="not_tried")
    missing = class_part(2).model_copy(update={"norm": None, "index": None, "success": False, "compact": ()})
    text = audit_text(record.model_copy(update={"classes": (missing,)}))
    assert re.search(r"^  2 class-2 +- +99\.0 % +- +- +0\.20 +no trigger$", text, re.M)
    assert "\nRepair\n" not in text


def test_many_classes_are_shortened_and_suspicious_ones_kept():
    record = audit_record(classes=1000)
    far = class_part(987, suspicious=True)
    text = audit_text(record.model_copy(update={"classes": (*record.classes[:987], far, *record.classes[988:])}))
    assert "987 class-987" in text
    assert "3 class-3 " in text
    assert "and 980 classes with lower indices" in text


@pytest.mark.parametrize("width", [20, 80, 100, 500])
@pytest.mark.parametrize("hostile", [False, True])
def test_no_line_is_too_wide(width, hostile):
    name = HOSTILE if hostile else "/stage4/unit3/bottleneck/conv2/Conv"
    record = audit_record(layer=name, name=name, reason=name)
    texts = [
        audit_text(record, width=width),
        inspect_text(inspect_record(name), width=width),
        verify_text(
            verify_record().model_copy(update={"other_changes": (name,), "changed": (name,) * 30}), width=width
        ),
    ]
    allowed = min(120, max(75, width))  # a sha256 cannot be made shorter
    for text in texts:
        lines = [line for line in text.splitlines() if not line.startswith("     shapprune ")]  # to paste: never broken
        assert max(map(cells, lines)) <= allowed
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_colour_adds_codes_and_nothing_else():
    record = audit_record()
    coloured = audit_text(record, colour=True)
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == audit_text(record)


def test_verdict_line():
    assert verdict_text(audit_record()) == "REPAIRED  (the input was backdoored): no trigger is found any more\n"
    assert (
        verdict_text(audit_record(verdict="pass", repair="nothing_to_repair", reason="no outlier"))
        == "PASS  no outlier\n"
    )
    assert verdict_text(verify_record()).startswith("PASS  only planned units")


def test_a_verdict_line_is_never_cut():
    text = verdict_text(audit_record(repair="not_tried", reason=f"{'word ' * 100}class 7, p 0.0002"))
    assert text.count("\n") == 1
    assert text.endswith("class 7, p 0.0002\n")


def test_a_dry_run_and_a_failed_repair_name_no_file_that_is_not_there():
    done = audit_record()
    dry = done.model_copy(update={"repair": done.repair.model_copy(update={"output": None})})
    failed = audit_record(repair="not_repaired")
    for text in (audit_text(dry), verdict_text(dry)):
        assert text.startswith("DRY RUN, nothing written  ")
        assert "written file" not in text
        assert "REPAIRED" not in text
    for text in (audit_text(failed), verdict_text(failed)):
        assert text.startswith("NOT REPAIRED  ")
        assert "nothing was written" in text
        assert "written file" not in text
    assert "clean.onnx" not in audit_text(failed)
    kept = failed.model_copy(update={"repair": failed.repair.model_copy(update={"output": done.repair.output})})
    assert "the best effort was written" in audit_text(kept)
    assert "what was searched and the written file agree" in audit_text(kept)


@pytest.mark.parametrize("source", ["model", "synthesised"])
def test_a_model_that_agrees_with_itself_has_no_accuracy(source):
    given = audit_record(verdict="pass", repair="not_tried")
    record = given.model_copy(update={"data": given.data.model_copy(update={"label_source": source})})
    assert audit_text(record).startswith("PASS  model.onnx (preprocessing unchecked)\n")
    assert verdict_text(record).endswith("; preprocessing unchecked\n")
    (row,) = (line for line in audit_text(record).splitlines() if line.startswith("  now"))
    assert row.split()[:2] == ["now", "-"]
    assert "no labels say whether the model was fed" in " ".join(audit_text(record).split())
    for text in (audit_text(given), verdict_text(given)):
        assert "unchecked" not in text
    (row,) = (line for line in audit_text(given).splitlines() if line.startswith("  now"))
    assert row.split()[:2] == ["now", "90.0"]


def test_verify_lists_what_changed():
    record = verify_record()
    text = verify_text(record.model_copy(update={"other_changes": ("node 3 was removed",)}))
    assert "PASS  before.onnx -> clean.onnx" in text
    assert "conv1: 5" in text
    assert "beyond the units: node 3 was removed" in text
    assert "95.0 % of the clean pictures" in text


def test_inspect_lists_everything():
    text = inspect_text(inspect_record())
    assert "READABLE  m.onnx" in text
    assert "conv1 float [N, 3, ?, 8]" in text
    assert "Units: 14 in 1 layer" in text
    assert "conv1 (Gemm): makes the class scores" in text
    assert "! conv1" in text
