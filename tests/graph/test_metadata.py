from onnx import helper

from onnx_shapprune.graph.metadata import ENTRIES, KEY, VALUE, metadata_of


def test_pairs_come_in_order_and_are_cut():
    model = helper.make_model(helper.make_graph([], "g", [], [], doc_string="a graph"), doc_string=" ")
    helper.set_model_props(model, {"b": "1", "a": "x" * (VALUE + 1), "k" * (KEY + 1): "2"})
    assert metadata_of(model) == (("b", "1"), ("a", "x" * VALUE), ("k" * KEY, "2"), ("graph doc_string", "a graph"))


def test_no_more_than_so_many():
    model = helper.make_model(helper.make_graph([], "g", [], []))
    helper.set_model_props(model, {str(i): "" for i in range(ENTRIES + 5)})
    assert len(metadata_of(model)) == ENTRIES
