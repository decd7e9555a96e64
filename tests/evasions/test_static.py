"""Every edit that hides something is seen in the graph, on two designs; what only moves scores, or is usual, is not."""

import pytest
from bounded_edits import HONEST, KEEPING, LONE, PLANTED, SWITCHES, WAITING
from sample_design import rows_design, sample_design

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.provenance.oddities import Oddity, graph_doubt, oddities

DESIGNS = {"sample": sample_design(), "rows": rows_design()}
BY_DESIGN = pytest.mark.parametrize("design", DESIGNS)


def seen(design: str, edit) -> tuple[Oddity, ...]:
    model = edit(DESIGNS[design])
    return oddities(model, find_interface(model, output="scores"))


# Nothing in the graph tells them: tests/evasions/test_audits.py and test_deployed.py have what does.
UNSEEN = {
    "ranks",
    "no_number_for_a_slope",
    "no_number_off_whole_bytes",
    "flat_at_whole_bytes",
    "in_a_sequence",
    "more_than_half_without_slope",
    "one_step_for_a_lower_bar",
    "in_the_body_of_a_scan",
    "beyond_the_end_of_halves",
    *LONE,
    *WAITING,
}


REFUSED = "a_function_that_is_not_called"


@BY_DESIGN
@pytest.mark.parametrize("name", [n for n in (*SWITCHES, *PLANTED) if n not in UNSEEN | {REFUSED}])
def test_what_can_change_the_answer_is_told(design, name):
    found = seen(design, (SWITCHES | PLANTED)[name])
    assert graph_doubt(found), [o.text for o in found]
    assert all(node in o.text or "more" in o.text for o in found for node in o.nodes[:4])


@BY_DESIGN
@pytest.mark.parametrize("name", [*KEEPING, *HONEST])
def test_ends_and_usual_additions_are_no_reason_to_doubt(design, name):
    assert graph_doubt(seen(design, (KEEPING | HONEST)[name])) is None


def test_a_function_with_the_name_of_an_operator_is_refused():
    """onnxruntime runs the operator; what is looked at would be the function."""
    with pytest.raises(ModelError, match="may stand for an operator: onnxruntime would not call it"):
        seen("sample", PLANTED[REFUSED])


RULES = {
    "less_and_where": {"OSP210", "OSP212"},
    "relu_of_a_filter": {"OSP212"},
    "sign_of_a_filter": {"OSP211", "OSP212"},
    "slope_turned_round": {"OSP213"},
    "only_batches_of_one": {"OSP214"},
    "a_random_fifth": {"OSP210", "OSP212", "OSP215"},
    "drawn_by_dropout": {"OSP215"},
    "dropped_scores": {"OSP215"},
    "slope_turned_round_by_cast_like": {"OSP213"},
    "second_label": {"OSP216"},
    "looked_up_elsewhere": {"OSP212"},
    "cropped_elsewhere": {"OSP212"},
    "counted_by_its_size": {"OSP210", "OSP212"},
    "in_the_bias_of_a_layer": {"OSP212"},
    "in_the_numbers_of_a_norm": {"OSP212"},
    "in_the_step_of_a_quantiser": {"OSP212"},
    "by_whole_numbers": {"OSP212"},
    "hard_mix": {"OSP213"},
    "sorted_and_scattered": {"OSP213"},
    "seen_in_doubles_alone": {"OSP220"},
    "padding": {"OSP217", "OSP218"},
    "twin": {"OSP218"},
}


@pytest.mark.parametrize("name", RULES)
def test_the_rule_says_what_was_added(name):
    assert {o.rule for o in seen("sample", (SWITCHES | PLANTED | KEEPING)[name])} == RULES[name]
