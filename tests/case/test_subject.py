"""Logits and gradients in bytes: against the graph itself, and against central differences through the preprocessing."""

from dataclasses import replace

import models
import numpy as np
import planted
import pytest

from onnx_shapprune.case.subject import BATCH, Subject, margins
from onnx_shapprune.graph.cost import activation_bytes
from onnx_shapprune.pictures.preprocess import Preprocessing, to_input
from onnx_shapprune.runtime.session import CPU, CUDA, Device, Session
from onnx_shapprune.runtime.weights import weight_bytes

COLOUR = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
SIGNED = Preprocessing(input_range=(-1, 1), mean=(0.1,), std=(0.5,), channel_order="BGR")
LAST = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), layout="NHWC", channel_order="BGR")

SUBJECTS = {
    "mean and std": (models.conv_bn_relu_residual, COLOUR),
    "signed range, BGR": (models.squeeze_excite, SIGNED),
    "channels last": (models.nhwc, LAST),
    "batch that cannot be freed": (planted.frozen_batch, COLOUR),
    "tokens": (models.attention, COLOUR),
}


def loss_of(subject: Subject, x: np.ndarray, targets: np.ndarray, w_ce: float, w_margin: float, cap: float) -> float:
    """The documented loss, from the logits alone."""
    z = subject.logits(x.astype(np.float32)).astype(np.float64)
    total = 0.0
    for row, t in zip(z, targets, strict=True):
        shifted = row - row.max()
        total += w_ce * (np.log(np.exp(shifted).sum()) - shifted[t])
        total += w_margin * max(0.0, cap - (row[t] - np.delete(row, t).max()))
    return total


@pytest.mark.parametrize("weights", [(1.0, 0.0, 1e9), (0.0, 1.0, 50.0)], ids=["ce", "margin"])
@pytest.mark.parametrize("name", SUBJECTS)
def test_gradient_is_that_of_the_loss_in_bytes(name, weights):
    build, preprocessing = SUBJECTS[name]
    subject = planted.subject_of(build(), preprocessing)
    x, targets = planted.random_pictures(3, seed=4) * 0.8 + 20, np.array([1, 3, 0])
    w_ce, w_margin, cap = weights
    logits, gradient = subject.gradient(x, targets, w_ce=w_ce, w_margin=w_margin, cap=cap)
    np.testing.assert_allclose(logits, subject.logits(x), atol=1e-5)
    assert gradient.shape == x.shape
    rng = np.random.default_rng(1)
    checked = 0
    for _ in range(6):
        # Along the gradient's own signs: a random direction would leave a difference that float32 cannot hold.
        direction = np.sign(gradient) * (rng.random(x.shape) < 0.5)
        step = 0.05
        numeric = (
            loss_of(subject, x + step * direction, targets, *weights)
            - loss_of(subject, x - step * direction, targets, *weights)
        ) / (2 * step)
        exact = float((gradient.astype(np.float64) * direction).sum())
        assert abs(numeric) > 1e-4, "vacuous check: pick a live input"
        assert abs(numeric - exact) <= 0.01 * abs(numeric)
        checked += 1
    assert checked == 6


def test_a_gradient_in_input_units_would_be_noticed():
    # The adjoint of the preprocessing is most of the point: 1 / 255 / std a channel.
    subject = planted.subject_of(models.conv_bn_relu_residual(), COLOUR)
    plain = planted.subject_of(models.conv_bn_relu_residual())
    x = planted.random_pictures(2)
    undone = (to_input(x, COLOUR).transpose(0, 2, 3, 1) * 255).astype(np.float32)
    targets = np.array([0, 1])
    np.testing.assert_allclose(subject.logits(x), plain.logits(undone), atol=1e-4)
    _, ours = subject.gradient(x, targets)
    _, theirs = plain.gradient(undone, targets)
    np.testing.assert_allclose(ours, theirs / np.array(COLOUR.std), rtol=2e-3, atol=1e-7)


def test_batch_is_cut_into_parts_and_counted():
    model = models.vgg_maxpool()
    subject = planted.subject_of(model)
    x = planted.random_pictures(BATCH + 5)
    whole = Session(subject.prepared.model, planted.DEVICE).run({"x": to_input(x, subject.preprocessing)})[0]
    np.testing.assert_allclose(subject.logits(x), whole, atol=1e-5)
    assert subject.work.pictures == BATCH + 5
    targets = np.arange(BATCH + 5) % 4
    logits, together = subject.gradient(x, targets)
    assert subject.work.pictures == 2 * (BATCH + 5)
    np.testing.assert_allclose(logits, whole, atol=1e-5)
    alone = np.concatenate([subject.gradient(x[i : i + 1], targets[i : i + 1])[1] for i in (0, BATCH - 1, BATCH + 4)])
    np.testing.assert_allclose(together[[0, BATCH - 1, BATCH + 4]], alone, rtol=1e-3, atol=1e-8)


def test_things_with_many_pictures_each_come_few_at_a_time():
    subject = planted.subject_of(models.vgg_maxpool())
    for count, each in ((BATCH + 5, 1), (7, BATCH // 3), (3, 2 * BATCH)):
        parts = list(subject.in_batches(count, lambda s: s, each=each))
        assert [i for s in parts for i in range(count)[s]] == list(range(count))
        assert max(len(range(count)[s]) for s in parts) == max(1, BATCH // each)


def test_fewer_pictures_go_together_where_they_would_fill_the_cache(monkeypatch):
    model, x = models.vgg_maxpool(), planted.random_pictures(5)
    every = planted.subject_of(model).gradient(x, np.arange(5) % 4)[1]
    prepared = planted.subject_of(model).prepared
    bytes_, weights = activation_bytes(prepared.infos), weight_bytes(prepared.model)
    sizes = []

    class Watched(Session):
        def run(self, feeds, outputs=None):
            sizes.append(len(feeds["x"]))
            return super().run(feeds, outputs)

    monkeypatch.setattr("onnx_shapprune.runtime.lanes.Session", Watched)
    monkeypatch.setattr("onnx_shapprune.case.subject.CACHE", 2 * bytes_ - 2 * weights)
    np.testing.assert_allclose(planted.subject_of(model).gradient(x, np.arange(5) % 4)[1], every, rtol=1e-3, atol=1e-8)
    assert sizes == [2, 2, 1]


def test_on_a_gpu_batches_have_few_sizes(monkeypatch):
    """With the CPU under its name: what a batch is filled up with changes no number, and is not handed out."""
    subject, x = planted.subject_of(models.vgg_maxpool()), planted.random_pictures(21)
    targets = np.arange(21) % 4
    z, g = subject.gradient(x, targets)
    sizes = []

    class Watched(Session):
        def __init__(self, model, device, **rest):
            super().__init__(model, replace(device, provider=CPU), **rest)

        def run(self, feeds, outputs=None):
            sizes.append(len(feeds["x"]))
            return super().run(feeds, outputs)

    monkeypatch.setattr("onnx_shapprune.runtime.lanes.Session", Watched)
    monkeypatch.setattr("onnx_shapprune.case.subject.SIZES", (4, 16))
    gpu = Subject(subject.prepared, subject.preprocessing, Device(provider=CUDA, threads=1))
    np.testing.assert_allclose(gpu.logits(x), z, atol=1e-5)
    np.testing.assert_allclose(gpu.gradient(x, targets)[1], g, atol=1e-7)
    gpu.logits(x[:3])
    assert sizes == [16, 16, 16, 16, 4]


def test_batch_that_cannot_be_freed_runs_one_picture_at_a_time():
    model = planted.frozen_batch()
    subject = planted.subject_of(model)
    assert not subject.prepared.batch_free
    x = planted.random_pictures(3)
    session = Session(model, planted.DEVICE)
    rows = [session.run({"x": to_input(row[None], subject.preprocessing)})[0] for row in x]
    np.testing.assert_allclose(subject.logits(x), np.concatenate(rows), atol=1e-5)


def test_no_pictures_give_no_rows():
    assert planted.subject_of(models.vgg_maxpool()).logits(planted.random_pictures(0)).shape == (0, 4)


def test_logits_come_from_before_a_softmax():
    logits = planted.subject_of(planted.planted()).logits(planted.planted_pictures())
    behind = planted.subject_of(planted.with_softmax(planted.planted())).logits(planted.planted_pictures())
    np.testing.assert_allclose(logits, behind, atol=1e-5)
    assert behind.min() < -40


def test_margin_is_target_minus_best_other():
    z = np.array([[1, 5, 3], [4, 4, 0], [-2, -9, -3]], np.float32)
    np.testing.assert_array_equal(margins(z, np.array([1, 0, 1])), [2, 0, -7])
    np.testing.assert_array_equal(z[0], [1, 5, 3])  # the logits stay as they were
