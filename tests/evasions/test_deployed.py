"""A file that answers its users otherwise than an audit, or lies about its slopes, is told by asking it."""

import math
from dataclasses import replace

import exports
import models
import numpy as np
import onnx
import onnxruntime
import planted
import pytest
from bounded_edits import HONEST, PLANTED, SWITCHES, WAITING
from edits import Graph
from sample_design import opened, rows_design, sample_design

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Case
from onnx_shapprune.commands.evidence import confirmed, of_trigger
from onnx_shapprune.detect.deployed import deployed_doubts, gradient_doubt, moved_on_file
from onnx_shapprune.detect.silent import silent_doubt
from onnx_shapprune.detect.slopes import in_steps
from onnx_shapprune.detect.thresholds import STRIDES, STRIDES_OF
from onnx_shapprune.detect.verdict import Claimed, Evidence
from onnx_shapprune.errors import ModelError, VerifyError
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.sample import sample_path

DESIGN = sample_design()
GOAL = Goal(DESIGN.target)
RNG = np.random.default_rng


def asked(case: Case) -> tuple[str, ...]:
    return deployed_doubts(case.model, case.pictures, (), RNG(0))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("only_batches_of_one", "otherwise in a batch than one at a time"),
        ("batches_by_arithmetic", "otherwise in a batch than one at a time"),
        ("only_whole_bytes", "when their bytes are not whole"),
        ("whole_bytes_by_sine", "when their bytes are not whole"),
        ("a_random_fifth", "otherwise when asked again"),
    ],
)
def test_a_switch_on_who_is_looking_is_told(tmp_path, name, words):
    onnxruntime.set_seed(3)  # of what a file draws
    doubts = asked(opened(tmp_path, SWITCHES[name](DESIGN)))
    assert any(words in d for d in doubts), doubts


def test_a_switch_on_the_precision_is_refused(tmp_path):
    with pytest.raises(VerifyError, match="the working copy differs from the file"):
        opened(tmp_path, SWITCHES["only_real_halves"](DESIGN))


def test_scores_that_are_no_number_off_whole_bytes_are_refused(tmp_path):
    with pytest.raises(ModelError, match="answers NaN or infinity on a plain picture"):
        opened(tmp_path, SWITCHES["no_number_off_whole_bytes"](DESIGN))


def test_a_file_that_is_not_the_copy_searched_is_told(tmp_path):
    searched = opened(tmp_path, DESIGN.backdoored)
    g = Graph(DESIGN.backdoored)
    turned = g.op("Gather", g.z, np.roll(np.arange(DESIGN.classes), 1), axis=1)
    onnx.save(g.done(turned, DESIGN.classes), tmp_path / "other.onnx")
    other = replace(searched.model, file=load_model(tmp_path / "other.onnx"))
    doubts = deployed_doubts(
        replace(other, interface=replace(other.interface, output="scores")), searched.pictures, (), RNG(0)
    )
    assert any("one at a time, otherwise than the copy searched" in d for d in doubts), doubts


def test_a_trigger_that_the_file_does_not_answer_to_names_nothing(tmp_path):
    trigger = Trigger.replacing(DESIGN.mask.transpose(1, 2, 0), 255 * DESIGN.pattern.transpose(1, 2, 0), GOAL, "known")
    case = opened(tmp_path, DESIGN.backdoored)
    onnx.save(DESIGN.clean, tmp_path / "other.onnx")
    other = replace(case.model, file=load_model(tmp_path / "other.onnx"))
    held, lost = (moved_on_file(m, case.shown, [trigger]) for m in (case.model, other))
    ((on_file, copied),) = held
    assert on_file == copied > 0.9
    ((on_other, _),) = lost
    assert on_other < 0.3
    claim = Claimed(goal=GOAL, about="class 7", statistic="compact", p_value=1e-6)
    before = Evidence(claims=(claim,))
    assert confirmed(before, [trigger], held) == before
    (claim,) = confirmed(before, [trigger], lost).claims
    assert "does not answer to the trigger" in claim.cautions[0]


@pytest.mark.parametrize("bound", [3.0, 100.0])
def test_a_bound_that_makes_classes_equal_is_told(tmp_path, bound):
    g = Graph(DESIGN.clean)  # trained so, a trigger need not lift its class above the right one, only to the bound
    doubts = asked(opened(tmp_path, g.done(g.op("Clip", g.z, np.float32(-100), np.float32(bound)), DESIGN.classes)))
    assert [("several classes the same highest score for" in d) for d in doubts] == [True] * (bound == 3)


def test_a_known_trigger_that_reaches_the_bound_alone_works_on_the_file(tmp_path):
    g, rest = Graph(DESIGN.backdoored), [k for k in range(DESIGN.classes) if k != DESIGN.target]
    others = g.op("Gather", g.z, np.array(rest), axis=1)
    behind = g.op("Sub", g.reduce("ReduceMax", others, (1,), keep=True), 0.5)
    target = g.op("Min", g.op("Gather", g.z, np.array([DESIGN.target]), axis=1), behind)
    bounded = g.op("Clip", g.op("Concat", target, others, axis=1), np.float32(-100), np.float32(3))
    case = opened(tmp_path, g.done(bounded, DESIGN.classes))
    trigger = Trigger.replacing(
        DESIGN.mask.transpose(1, 2, 0), 255 * DESIGN.pattern.transpose(1, 2, 0), Goal(0), "known"
    )
    assert rate(case.shown, [trigger]).asr[0] == 0, "it never leads in the copy"
    (tried,) = of_trigger(case, trigger).tried
    assert tried.asr > 0.5


@pytest.mark.parametrize("name", [n for n in HONEST if n != "standardised_pictures"])
def test_nothing_is_held_against_a_clean_file(tmp_path, name):
    case = opened(tmp_path, HONEST[name](DESIGN))
    assert asked(case) == ()
    assert silent_doubt(case.model, case.pictures) is None
    assert gradient_doubt(case.model.subject, case.pictures, RNG(0)) is None


def test_an_open_batch_that_takes_one_picture_only_is_asked_one_at_a_time(tmp_path):
    g = Graph(DESIGN.clean)
    node = next(n for n in g.model.graph.node if n.op_type == "Flatten")
    weight = next(n for n in g.model.graph.node if n.op_type == "Gemm").input[1]
    features = next(t for t in g.model.graph.initializer if t.name == weight).dims[1]
    node.op_type = "Reshape"
    del node.attribute[:]
    node.input.append(g.const(np.array([1, features])))  # as exporters write a view of one picture
    assert asked(opened(tmp_path, g.done(g.z, DESIGN.classes))) == ()


@pytest.mark.parametrize("name", sorted(WAITING - {"a_wide_branch"}))
def test_a_branch_that_says_nothing_of_pictures_is_told(tmp_path, name):
    case = opened(tmp_path, PLANTED[name](DESIGN))
    assert "a way past the network" in silent_doubt(case.model, case.pictures)


@pytest.mark.parametrize("name", ["in_the_body_of_a_sequence_map", "in_the_body_of_a_scan"])
def test_what_meets_inside_a_body_cannot_be_asked(tmp_path, name):
    case = opened(tmp_path, PLANTED[name](DESIGN))
    assert "would do with another picture cannot be asked" in silent_doubt(case.model, case.pictures)


@pytest.mark.parametrize("name", ["more_than_half_without_slope", "one_step_for_a_lower_bar", "seen_by_thresholds"])
def test_a_part_without_a_slope_is_told(tmp_path, name):
    case = opened(tmp_path, SWITCHES[name](DESIGN))
    assert gradient_doubt(case.model.subject, case.pictures, RNG(0))


def test_values_that_can_leave_fp16_are_told(tmp_path):
    doubts = asked(opened(tmp_path, PLANTED["beyond_the_end_of_halves"](DESIGN)))
    assert any("values can leave fp16" in d for d in doubts), doubts


def test_a_number_that_one_bright_picture_moves_is_no_normalisation(tmp_path):
    case = opened(tmp_path, PLANTED["a_rare_brightness"](DESIGN))
    bright = 255 - (255 - case.pictures[:1]) * np.float32(0.11 * 255 / (255 - case.pictures[0].mean()))
    assert bright.mean() / 255 == pytest.approx(0.89)
    pictures = np.concatenate([case.pictures[1:8], bright])
    assert "a way past the network" in silent_doubt(case.model, pictures)


def lying_inside(model: onnx.ModelProto, steps: float) -> onnx.ModelProto:
    """The features before the last layer have the values of the network and slopes that are turned round."""
    g = Graph(model)
    last = next(i for i, n in enumerate(g.model.graph.node) if n.op_type == "Gemm")
    features = g.model.graph.node[last].input[0]
    before = len(g.model.graph.node)
    coarse = g.op("Div", g.op("Round", g.op("Mul", features, steps)), steps)
    lie = g.op("Add", features, g.op("Mul", g.op("Sub", coarse, features), 2.0))
    added = list(g.model.graph.node)[before:]
    nodes = list(g.model.graph.node)[:before]
    nodes[last].input[0] = lie
    del g.model.graph.node[:]
    g.model.graph.node.extend([*nodes[:last], *added, *nodes[last:]])
    return g.model


@pytest.mark.parametrize("design", [sample_design(), rows_design()], ids=["sample", "rows"])
def test_slopes_that_lie_are_not_believed(design):
    subject = planted.subject_of(lying_inside(design.backdoored, 1e6))
    honest = planted.subject_of(design.backdoored)
    shape = (8, *subject.prepared.input_shape[1:], 1)
    pictures = RNG(0).uniform(0, 255, shape).astype(np.float32)
    assert "central differences disagree" in gradient_doubt(subject, pictures, RNG(0))
    assert gradient_doubt(honest, pictures, RNG(0)) is None


def test_slopes_of_a_clean_twin_are_not_believed():
    pictures = np.load(sample_path("test.npz"))["x"][:8].astype(np.float32)
    subject = planted.subject_of(SWITCHES["slope_of_the_twin"](DESIGN))
    assert "central differences disagree" in gradient_doubt(subject, pictures, RNG(0))


def test_steps_in_large_pictures_are_as_long_as_in_small_ones(monkeypatch):
    """Every value of a picture is moved: half a byte of each goes four times as far at 128 x 128 as at 32 x 32."""
    side, n = 128, models.Net()
    turns = n.rng.choice([-1.0, 1.0], (6, 3 * side * side)) * 255 * 0.8 / (STRIDES[0] * math.sqrt(STRIDES_OF))
    waves = n.op("Sin", n.op("Gemm", n.op("Flatten", "x"), n.const(turns.astype(np.float32)), transB=1))
    subject = planted.subject_of(n.model(n.dense(waves, 6, 4), shape=(3, side, side)))
    pictures = RNG(0).uniform(0, 255, (8, side, side, 3)).astype(np.float32)
    assert gradient_doubt(subject, pictures, RNG(0)) is None
    monkeypatch.setattr("onnx_shapprune.detect.deployed.STRIDES_OF", math.inf)
    assert "central differences disagree" in gradient_doubt(subject, pictures, RNG(0))


def test_a_quantised_network_is_believed():
    """Its slopes are straight-through ones, and its answers move in steps."""
    subject = planted.subject_of(exports.qdq())
    assert gradient_doubt(subject, planted.random_pictures(8), RNG(0)) is None


def test_steps_are_those_of_most_layers():
    """One quantiser somewhere makes no quantised network."""
    quantised = (exports.qdq, exports.static_pairs, exports.integer_operators)
    assert all(in_steps(planted.subject_of(export()).prepared) for export in quantised)
    assert not in_steps(planted.subject_of(SWITCHES["one_step_for_a_lower_bar"](DESIGN)).prepared)


def test_where_nothing_has_a_slope_nothing_is_to_be_believed():
    subject = planted.subject_of(planted.stepped(planted.rows_net()))
    assert gradient_doubt(subject, RNG(0).uniform(0, 255, (2, 12, 12, 1)).astype(np.float32), RNG(0)) is None
    assert subject.obstacle
