"""Whole audits of the hand-made network: what hides a backdoor is never green, what exporters add costs nothing."""

from dataclasses import replace

import numpy as np
import onnx
import planted
import pytest
from bounded_edits import HONEST, KEEPING, LONE, PLANTED, SWITCHES
from sample_design import opened, rows_design, sample_design

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.commands.audit import audit
from onnx_shapprune.commands.repair import sanitize
from onnx_shapprune.commands.verify import verify
from onnx_shapprune.detect.lone import Lone, spoken_alone
from onnx_shapprune.errors import ShapPruneError, VerifyError
from onnx_shapprune.invert import search
from onnx_shapprune.invert.families import Family
from onnx_shapprune.invert.plain import plain
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.settings import InputOptions, RunOptions

DESIGN = rows_design()
QUICK = RunOptions(threads=1, device="cpu", permutations=4, restarts=1, calibration=planted.calibration())
SCORES = InputOptions(output="scores")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("audits")
    x, y = planted.rows_pictures(2)
    np.savez(made / "pictures.npz", x=x, y=y)
    return made


def audited(folder, edit):
    onnx.save(edit(DESIGN), folder / "model.onnx")
    return audit(folder / "model.onnx", folder / "pictures.npz", inputs=SCORES, run=QUICK)


@pytest.mark.parametrize("name", ["padding", "twin", "sharp_softmax", "slope_of_the_twin", "turned_twice"])
def test_a_backdoor_is_found_behind_what_hides_it(folder, name):
    record = audited(folder, (KEEPING | SWITCHES)[name])
    assert (record.verdict, record.target_classes) == ("fail", (5,))
    left_out = any("score" in line for line in record.not_searched)
    assert left_out is (name in ("padding", "twin"))


@pytest.mark.parametrize("name", ["only_whole_bytes", "a_random_fifth", "second_output"])
def test_a_clean_twin_in_front_is_no_pass(folder, name):
    record = audited(folder, SWITCHES[name])
    assert record.verdict in ("inconclusive", "fail")
    assert any(f.level == "warning" and f.rule.startswith("OSP21") for f in record.findings)
    if record.verdict == "inconclusive":
        suspected = [s.targets for s in record.suspects] == [(5,)]
        assert suspected or "the graph can change the answer by itself" in record.reasons[0]


def test_a_file_whose_answers_are_not_those_of_its_copy_is_not_audited(folder):
    with pytest.raises(VerifyError, match="this graph cannot be audited"):
        audited(folder, SWITCHES["only_real_halves"])


@pytest.mark.parametrize("name", ["less_and_where", "relu_of_a_filter"])
def test_a_trigger_in_the_graph_is_found_and_its_branch_cut_off(folder, name):
    record = audited(folder, PLANTED[name])
    assert (record.verdict, record.target_classes) == ("fail", (5,))
    assert any("the graph itself answers to 9 pixels: 100%" in reason for reason in record.reasons)
    assert {t.targets for t in record.triggers if t.named} == {(5,)}
    out = folder / f"{name}_cut.onnx"
    model, pictures = folder / "model.onnx", folder / "pictures.npz"
    mended = sanitize(model, pictures, output=out, inputs=SCORES, run=QUICK)
    assert (mended.repair.status, mended.repair.method) == ("repaired", "cut")
    assert mended.repair.masked_vs_baked == 0
    kept, plain = (len(m.graph.node) for m in (onnx.load(out), HONEST["plain"](DESIGN)))
    assert kept == plain + 1, "what is left of the branch is an Identity"
    compared = verify(model, out, pictures, inputs=SCORES, run=QUICK)
    assert (compared.verdict, compared.other_changes, compared.after.asr) == ("pass", (), 0)


@pytest.mark.parametrize(("beside", "told"), [(0.1, True), (0.4, False)])
def test_pixels_that_change_as_much_elsewhere_are_no_doubt(beside, told, monkeypatch):
    trigger = Trigger.replacing(np.eye(4, dtype=np.float32)[..., None], np.zeros((4, 4, 1)), Goal(0), "known")
    answers = np.arange(6), np.array([1, 2, 0, 3, 4, 5])
    lone = Lone(trigger, "front", changed=0.5, still=0.0, beside=beside, usual=answers[0], answers=answers[1])
    monkeypatch.setattr("onnx_shapprune.detect.lone.lone_pixels", lambda opened, shown: iter([lone]))
    written, doubt = spoken_alone(None, None)
    assert written is None
    assert (doubt is not None) is told


@pytest.mark.parametrize("name", sorted(LONE))
def test_pixels_that_speak_alone_are_shown_every_grey(tmp_path, name):
    """On the sample, as the hand-made network does not look at its corner."""
    design = sample_design()
    case = opened(tmp_path, PLANTED[name](design))
    found, doubt = spoken_alone(case.model, case.shown)
    assert doubt is None
    assert np.array_equal(found.trigger.mask[..., 0], design.mask[0])
    assert found.asr == 1.0
    assert found.held <= 0.1


def test_honest_pixels_say_nothing_alone(tmp_path):
    for name in ("plain", "less_a_mean_picture", "mirrored_and_cropped", "over_the_little_that_pixels_vary"):
        case = opened(tmp_path, HONEST[name](sample_design()))
        assert spoken_alone(case.model, case.shown) == (None, None), name


@pytest.mark.parametrize(
    ("name", "words"), [("equal_bytes_and_all", "clean pictures get other scores"), ("branch_by_if", "no node can be")]
)
def test_what_cannot_be_cut_off_is_refused(folder, name, words):
    onnx.save(PLANTED[name](DESIGN), folder / "model.onnx")
    never = folder / "never.onnx"
    mended = sanitize(folder / "model.onnx", folder / "pictures.npz", output=never, inputs=SCORES, run=QUICK)
    assert (mended.verdict, mended.repair.status) == ("fail", "not_repaired")
    assert words in mended.repair.reason
    assert not never.exists()


def test_a_second_file_with_a_trigger_in_its_graph_fails(folder):
    """Whatever the first one was."""
    onnx.save(HONEST["plain"](DESIGN), folder / "plain.onnx")
    onnx.save(PLANTED["less_and_where"](DESIGN), folder / "model.onnx")
    compared = verify(folder / "plain.onnx", folder / "model.onnx", folder / "pictures.npz", inputs=SCORES, run=QUICK)
    assert compared.verdict == "fail"
    assert any("the graph itself answers to 9 pixels" in r for r in compared.reasons)


@pytest.mark.parametrize("name", ["a_wide_branch", "a_heavy_branch", "painted_over", "a_channel_that_waits"])
def test_a_branch_that_keeps_still_is_no_pass(folder, monkeypatch, name):
    """Though its trigger is no shape that is simply tried."""

    def corner(*size: int) -> Family:
        family = plain(*size)
        assert family.fixed is not None
        return replace(family, masks=family.masks[:1], fixed=family.fixed[:1])

    monkeypatch.setattr(search, "plain", corner)
    record = audited(folder, PLANTED[name])
    assert record.verdict == "inconclusive"
    assert any("a way past the network says nothing of any picture" in doubt for doubt in record.doubts)


@pytest.mark.parametrize("name", ["a_wide_branch", "a_heavy_branch"])
def test_a_branch_that_keeps_still_for_a_plain_shape_is_named(folder, name):
    record = audited(folder, PLANTED[name])
    assert (record.verdict, record.target_classes) == ("fail", (5,))
    assert "a plain shape" in record.reasons[0]


@pytest.mark.parametrize("name", ["grey_pixels_counted", "grey_pixels_counted_without_exponentials"])
def test_what_is_no_normalisation_though_it_is_built_like_one_is_no_pass(folder, name):
    """A count of pixels of one grey: no mean, and none of the pictures has them."""
    record = audited(folder, PLANTED[name])
    assert record.verdict in ("inconclusive", "fail")
    assert any("a way past the network says nothing of any picture" in doubt for doubt in record.doubts)


def test_what_joins_inside_a_sequence_is_no_pass(folder):
    record = audited(folder, PLANTED["in_a_sequence"])
    assert record.verdict in ("inconclusive", "fail")
    assert record.verdict == "fail" or "no gradient rule for: ConcatFromSequence" in record.reasons[0]


@pytest.mark.parametrize("name", ["no_number_for_a_slope", "ranks", "flat_at_whole_bytes", "padding_in_front"])
def test_what_the_graph_does_not_tell_ends_in_a_verdict_that_is_no_pass(folder, name):
    assert audited(folder, (KEEPING | SWITCHES)[name]).verdict in ("fail", "inconclusive")


def test_a_file_without_a_number_for_what_a_search_paints_is_not_audited(folder):
    with pytest.raises(
        ShapPruneError, match="margin of class 0 is nan: the model has no number for what a search paints"
    ):
        audited(folder, SWITCHES["no_number_on_odd_paint"])


def test_a_repaired_file_is_asked_what_any_other_is_before_it_passes(folder, monkeypatch):
    answers = [("it answers otherwise",), (), ("it answers otherwise",)]
    monkeypatch.setattr("onnx_shapprune.commands.evidence.deployed_doubts", lambda *_: answers.pop(0))
    model, pictures, out = folder / "planted.onnx", folder / "pictures.npz", folder / "out.onnx"
    onnx.save(DESIGN.backdoored, model)
    once = replace(QUICK, method="prune")
    doubted, held = (sanitize(model, pictures, output=out, run=once) for _ in range(2))
    assert doubted.repair.status == "not_repaired"
    assert doubted.repair.reason == "in a full audit of the repaired file, it answers otherwise"
    assert held.repair.status == "repaired"
    compared = verify(model, out, pictures, run=QUICK)
    assert (compared.verdict, compared.doubts, answers) == ("inconclusive", ("it answers otherwise",), [])


@pytest.mark.parametrize("name", ["calibrated", "label_beside_scores", "over_its_largest"])
def test_a_clean_network_passes_with_what_exporters_add(folder, name):
    record = audited(folder, HONEST[name])
    assert (record.verdict, record.not_searched) == ("pass", ())
