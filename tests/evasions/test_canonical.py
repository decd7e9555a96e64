"""Under edits that keep the largest score, searches see the very scores of the network, and its slopes."""

import numpy as np
import onnx
import planted
import pytest
from bounded_edits import HONEST, KEEPING, SWITCHES
from edits import Graph
from sample_design import rows_design, sample_design

from onnx_shapprune.case.open import Case, open_case
from onnx_shapprune.commands.evidence import left_out
from onnx_shapprune.sample import sample_path
from onnx_shapprune.settings import InputOptions, RunOptions

DESIGNS = {"sample": sample_design(), "rows": rows_design()}
MOVED = "padding_in_front"  # gives every class another number
SLOPES = [name for name in SWITCHES if name.startswith("slope")]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """(design, model) -> an opened case with its pictures."""
    folder = tmp_path_factory.mktemp("canonical")
    x, y = planted.rows_pictures(2)
    np.savez(folder / "rows.npz", x=x, y=y)
    pictures = {"sample": sample_path("pictures"), "rows": folder / "rows.npz"}

    def case(design: str, model: onnx.ModelProto) -> Case:
        onnx.save(model, folder / "model.onnx")
        return open_case(
            folder / "model.onnx",
            pictures[design],
            InputOptions(output=model.graph.output[0].name),
            RunOptions(threads=1, device="cpu"),
        )

    return case


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", [n for n in KEEPING if n != MOVED] + SLOPES)
def test_scores_and_slopes_are_those_of_the_network(opened, design, name):
    plain = opened(design, DESIGNS[design].backdoored)
    edited = opened(design, (KEEPING | SWITCHES)[name](DESIGNS[design]))
    one, other = plain.model.subject, edited.model.subject
    classes = list(other.reachable)
    assert len(classes) == one.classes
    assert plain.pictures.tolist() == edited.pictures.tolist()
    targets = np.array([classes[0]] * len(plain.pictures))
    z, slope = one.gradient(plain.pictures, np.zeros_like(targets))
    edited_z, edited_slope = other.gradient(plain.pictures, targets)
    gain = np.ptp(edited_z[:, classes]) / np.ptp(z)
    centred, edited_centred = (s - s.mean(1, keepdims=True) for s in (z, edited_z[:, classes]))
    np.testing.assert_allclose(edited_centred / gain, centred, atol=2e-4 * np.ptp(z))
    np.testing.assert_allclose(edited_slope / gain, slope, atol=2e-4 * np.abs(slope).max())


def test_what_leaves_the_statistics_is_reported(opened):
    padded = opened("sample", KEEPING["padding"](DESIGNS["sample"])).model.subject
    copied = opened("sample", KEEPING["twin_just_below"](DESIGNS["sample"])).model.subject
    assert "no picture changes the score" in padded.reach.notes[0]
    assert copied.reach.notes == ("class 10: its score is that of class 7, shifted at most",)
    answers = copied.logits(np.zeros((1, 28, 28, 1), np.float32))
    assert answers[0, 10] < answers[0].min() + 1e-3, "a copy is nobody's runner-up"


@pytest.mark.parametrize("name", KEEPING)
def test_a_class_that_nothing_can_reach_waits_for_nothing(opened, name):
    reach = opened("sample", KEEPING[name](DESIGNS["sample"])).model.subject.reach
    assert reach is None or reach.waits == ()


@pytest.mark.parametrize("kind", ["still", "a copy"])
def test_a_class_that_waits_behind_the_scores_is_told(opened, kind):
    """An eleventh score that is one number, or another's less six, until a detector that is off on pictures says more."""
    g = Graph(DESIGNS["sample"].clean)
    loud = g.op("Relu", g.op("Sub", g.op("Slice", g.z, np.array([3]), np.array([4]), np.array([1])), 1e3))
    weight, bias = np.eye(11), np.zeros(11)
    weight[10, 3], bias[10] = (0, -12) if kind == "still" else (1, -6)
    case = opened("sample", g.done(g.op("Gemm", g.op("Concat", g.z, loud, axis=1), weight, bias, transB=1), 11))
    assert case.model.subject.reach.waits == (10,)
    assert "no search was made for class 10" in left_out(case.model)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", [n for n in HONEST if n != "standardised_pictures"])
def test_of_clean_networks_nothing_is_left_out(opened, design, name):
    assert opened(design, HONEST[name](DESIGNS[design])).model.subject.reach is None
