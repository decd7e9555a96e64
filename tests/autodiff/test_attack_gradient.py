"""The attack objective on whole networks: its value against numpy, its gradients against differences in float64."""

import numpy as np
import onnx
import pytest
from derivative import DEVICE, Array, Floats, double, run_onnxruntime, run_reference, typed, value_info
from networks import CLASSES, NETWORKS, feeds_for, network
from onnx import helper

from onnx_shapprune.autodiff.loss import GRAD, LOSS, attack_gradient
from onnx_shapprune.errors import ModelError, UnsupportedOpError
from onnx_shapprune.runtime.probe import probe
from onnx_shapprune.runtime.session import Session

BATCH = 3


def objective(logits: Array, target: Array, w_ce: Array, w_margin: Array, cap: Array) -> Array:
    """The formula of the docstring, per picture."""
    top = logits.max(1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    margin = (logits * target).sum(1) - np.where(target > 0, -np.inf, logits).max(1)
    loss: Array = w_ce * -(target * log_p).sum(1) + w_margin * np.maximum(0.0, cap - margin)
    return loss


def attack_feeds(cap: float = 4.0) -> dict[str, Array]:
    return {
        "target": np.eye(CLASSES)[[1, 4, 0]],
        "w_ce": np.array([1.0, 0.3, 0.7]),
        "w_margin": np.array([0.5, 1.5, 0.2]),
        "margin_cap": np.array(cap),
    }


def named(model: onnx.ModelProto, values: list[Floats]) -> dict[str, Floats]:
    return {o.name: v for o, v in zip(model.graph.output, values, strict=True)}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_a_network(name: str) -> None:
    plain_32, plain_64 = network(name, np.float32), network(name, np.float64)
    feeds = feeds_for(plain_32, BATCH)
    wrt = list(feeds)
    infos = probe(plain_32, typed(feeds_for(plain_32, 2), np.float32), typed(feeds, np.float32), DEVICE)
    model_32 = attack_gradient(plain_32, infos, input_name="x", logits_name="logits", wrt=wrt)
    model_64 = attack_gradient(plain_64, double(infos), input_name="x", logits_name="logits", wrt=wrt)
    onnx.checker.check_model(model_32)
    extra = attack_feeds()

    def total(values: dict[str, Array]) -> float:
        logits = run_reference(plain_64, typed(values, np.float64))[0]
        return float(objective(logits, *extra.values()).sum())

    exact = named(model_64, run_reference(model_64, typed({**feeds, **extra}, np.float64)))
    single = named(model_32, run_onnxruntime(model_32, typed({**feeds, **extra}, np.float32)))
    logits = run_reference(plain_64, typed(feeds, np.float64))[0]
    np.testing.assert_allclose(exact["logits"], logits, rtol=1e-12)
    np.testing.assert_allclose(single["logits"], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(exact[LOSS], objective(logits, *extra.values()), rtol=1e-10)
    rng = np.random.default_rng(3)
    h = 1e-6
    for wanted in wrt:
        g64, g32 = exact[GRAD + wanted], single[GRAD + wanted]
        u = rng.standard_normal(feeds[wanted].shape)
        numeric = (
            total({**feeds, wanted: feeds[wanted] + h * u}) - total({**feeds, wanted: feeds[wanted] - h * u})
        ) / (2 * h)
        assert abs(numeric) > 1e-3
        assert abs(numeric - np.vdot(u, g64)) <= 1e-6 * max(1.0, abs(numeric))
        assert np.abs(g32 - g64).max() <= 2e-5 * np.abs(g64).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_of_a_batch_do_not_touch_each_other(name: str) -> None:
    model = network(name, np.float32)
    feeds = typed(feeds_for(model, BATCH), np.float32)
    infos = probe(model, typed(feeds_for(model, 2), np.float32), feeds, DEVICE)
    session = Session(attack_gradient(model, infos, input_name="x", logits_name="logits", wrt=["x"]), DEVICE)
    extra = typed(attack_feeds(), np.float32)
    together = session.run({**feeds, **extra}, [GRAD + "x"])[0]
    for i in range(BATCH):
        alone = {n: v[i : i + 1] if v.ndim else v for n, v in {**feeds, **extra}.items()}
        one = session.run(alone, [GRAD + "x"])[0]
        np.testing.assert_allclose(one[0], together[i], rtol=1e-3, atol=1e-5 * np.abs(together[i]).max())


def test_only_standard_operators_are_emitted() -> None:
    model = network("attention", np.float32)
    infos = probe(model, typed(feeds_for(model, 2), np.float32), typed(feeds_for(model, 3), np.float32), DEVICE)
    made = attack_gradient(model, infos, input_name="x", logits_name="logits", wrt=["x"])
    assert {n.domain for n in made.graph.node} == {""}
    assert len(made.graph.node) > len(model.graph.node)


def linear(logits: str = "logits") -> onnx.ModelProto:
    """logits = x, so that gradients at the logits can be read off."""
    node = helper.make_node("Mul", ["x", "one"], [logits])
    one = onnx.numpy_helper.from_array(np.array(1, np.float32), "one")
    graph = helper.make_graph([node], "g", [value_info("x", ["N", 3])], [value_info(logits, ["N", 3])], [one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run_linear(x: Array, labels: list[int], *, w_ce: float, w_margin: float, cap: float) -> tuple[Floats, Floats]:
    model = linear()
    infos = probe(model, {"x": np.zeros((2, 3), np.float32)}, {"x": np.zeros((3, 3), np.float32)}, DEVICE)
    made = attack_gradient(model, infos, input_name="x", logits_name="logits", wrt=["x"])
    n = len(labels)
    feeds = {
        "x": x,
        "target": np.eye(3)[labels],
        "w_ce": np.full(n, float(w_ce)),
        "w_margin": np.full(n, float(w_margin)),
    }
    values = Session(made, DEVICE).run(
        typed({**feeds, "margin_cap": np.array(float(cap))}, np.float32), [LOSS, GRAD + "x"]
    )
    return np.asarray(values[0], np.float64), np.asarray(values[1], np.float64)


def test_hinge_is_flat_beyond_the_cap() -> None:
    loss, grad = run_linear(np.array([[5.0, 1, 0], [2, 1, 0]]), [0, 0], w_ce=0, w_margin=2, cap=3)
    np.testing.assert_allclose(loss, [0, 4])
    np.testing.assert_allclose(grad, [[0, 0, 0], [-2, 2, 0]])


def test_equal_rivals_share_the_gradient() -> None:
    _, grad = run_linear(np.array([[1.0, 2, 2]]), [0], w_ce=0, w_margin=1, cap=3)
    np.testing.assert_allclose(grad, [[-1, 0.5, 0.5]])


def test_extreme_logits_give_finite_numbers() -> None:
    loss, grad = run_linear(np.array([[60.0, 0, -60]]), [2], w_ce=1, w_margin=0, cap=0)
    np.testing.assert_allclose(loss, [120])
    np.testing.assert_allclose(grad, [[1, 0, -1]], atol=1e-7)


def test_inner_tensor_with_a_reserved_name_gives_way() -> None:
    model = network("vgg", np.float32)
    inner = model.graph.node[0].output[0]
    for node in model.graph.node:
        for place in (node.input, node.output):
            for i, name in enumerate(place):
                place[i] = "target" if name == inner else name
    feeds = typed(feeds_for(model, BATCH), np.float32)
    infos = probe(model, typed(feeds_for(model, 2), np.float32), feeds, DEVICE)
    made = attack_gradient(model, infos, input_name="x", logits_name="logits", wrt=["x"])
    values = named(made, run_onnxruntime(made, {**feeds, **typed(attack_feeds(), np.float32)}))
    assert np.abs(values[GRAD + "x"]).max() > 0


def test_refusals() -> None:
    model = linear("target")
    infos = probe(model, {"x": np.zeros((2, 3), np.float32)}, {"x": np.zeros((3, 3), np.float32)}, DEVICE)
    with pytest.raises(ModelError, match="target has the name"):
        attack_gradient(model, infos, input_name="x", logits_name="target", wrt=["x"])
    with pytest.raises(ModelError, match="no input named y"):
        attack_gradient(model, infos, input_name="y", logits_name="target", wrt=["x"])
    picture = network("vgg", np.float32)
    infos = probe(picture, typed(feeds_for(picture, 2), np.float32), typed(feeds_for(picture, 3), np.float32), DEVICE)
    with pytest.raises(ModelError, match=r"expected \(N, C\)"):
        attack_gradient(picture, infos, input_name="x", logits_name="Relu_1", wrt=["x"])


def test_unsupported_operators_are_all_named() -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["a"], name="first"),
        helper.make_node("Unsqueeze", ["a", "axis"], ["b"], name="fine"),
        helper.make_node("Hardmax", ["b"], ["c"], name="second"),
        helper.make_node("Concat", ["b", "c"], ["logits"], axis=1, name="join"),
    ]
    axis = onnx.numpy_helper.from_array(np.array([1]), "axis")
    graph = helper.make_graph(nodes, "g", [value_info("x", ["N", 2, 2])], [value_info("logits", ["N", 2])], [axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    infos = probe(model, {"x": np.ones((2, 2, 2), np.float32)}, {"x": np.ones((3, 2, 2), np.float32)}, DEVICE)
    with pytest.raises(UnsupportedOpError, match=r"Det \(first\), Hardmax \(second\)"):
        attack_gradient(model, infos, input_name="x", logits_name="logits", wrt=["x"])
