"""What is learnt of classes without pictures: largest margins, random patches, and pictures drawn out of the model."""

import numpy as np
import planted
import pytest

from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import margins
from onnx_shapprune.case.synthesis import SynthesisSettings, synthesise
from onnx_shapprune.invert import prescreen
from onnx_shapprune.invert.peaks import peaks
from onnx_shapprune.invert.prescreen import coarse_margins, lifts

SIZE = (4, 5, 2)
COLOUR = (planted.SIDE, planted.SIDE, 3)


class Linear:
    """Two classes whose logits are linear in the bytes."""

    classes = 2

    def __init__(self) -> None:
        self.weight = np.random.default_rng(0).normal(size=(2, *SIZE)) / 100
        self.bias = np.array([3.0, -1.0])

    def gradient(self, pictures, targets):
        z = np.tensordot(pictures, self.weight, axes=([1, 2, 3], [1, 2, 3])) + self.bias
        return z.astype(np.float32), (self.weight[1 - targets] - self.weight[targets]).astype(np.float32)


def test_the_peak_of_a_linear_model_is_that_of_the_best_corner_of_the_box():
    model = Linear()
    found = peaks(model, SIZE, [1, 0], np.random.default_rng(0))
    for target, height in zip((1, 0), found, strict=True):
        lead = model.weight[target] - model.weight[1 - target]
        best = 255 * lead.clip(0).sum() + model.bias[target] - model.bias[1 - target]
        assert height == pytest.approx(best, rel=1e-4)


def test_a_planted_class_has_the_highest_peak_without_any_picture():
    net = planted.subject_of(planted.planted())
    found = peaks(net, (8, 8, 1), range(4), np.random.default_rng(0))
    assert int(found.argmax()) == planted.TARGET
    # White in the corner and black elsewhere: nine of 64 pixels are what the weak class sees.
    assert found[planted.TARGET] == pytest.approx(40 - 1, abs=0.5)
    assert found[planted.DEAD] < 0
    again, other = (peaks(net, (8, 8, 1), range(4), np.random.default_rng(s)) for s in (0, 1))
    np.testing.assert_array_equal(again, found)
    assert (other != found).any()


def test_more_starts_never_lower_a_peak():
    net = planted.subject_of(planted.colours_net({0: 1}))
    few, many = (peaks(net, COLOUR, [1], np.random.default_rng(0), starts=n)[0] for n in (1, 6))
    assert many >= few


def test_random_patches_lift_the_planted_class_most():
    net = planted.subject_of(planted.planted())
    found = lifts(net, planted.planted_pictures(), np.random.default_rng(0), patches=200)
    assert found.shape == (4,)
    assert int(found.argmax()) == planted.TARGET
    assert found[planted.TARGET] > 2 * np.delete(found, planted.TARGET).max()


def test_a_screen_shows_each_patch_to_so_many_pictures_at_most():
    net = planted.subject_of(planted.planted())
    for count, shown in ((3, 3), (10, 4)):
        net.work.pictures = 0
        lifts(net, planted.planted_pictures(count), np.random.default_rng(0), patches=5, most=4)
        assert net.work.pictures == (1 + 5) * shown


def test_a_coarse_search_of_all_classes_puts_the_planted_one_first(monkeypatch):
    net = planted.subject_of(planted.planted())
    pictures = planted.planted_pictures()
    shown = Shown.to(net, pictures, np.zeros(len(pictures), np.int64))
    told: list[tuple[int, int]] = []
    for together in (2, 24):
        monkeypatch.setattr(prescreen, "TOGETHER", together)
        found = coarse_margins(shown, range(4), np.random.default_rng(0), progress=lambda *t: told.append(t))
        assert int(found.argmax()) == planted.TARGET
        assert found[planted.TARGET] > 30 > 1 > np.delete(found, planted.TARGET).max()
    assert told == [(2, 4), (4, 4), (4, 4)]


def test_what_a_patch_does_to_every_class_is_no_lift():
    class Brightness:
        classes = 3

        def logits(self, pictures):
            return np.repeat(pictures.mean(axis=(1, 2, 3))[:, None], 3, axis=1).astype(np.float32)

    found = lifts(Brightness(), planted.planted_pictures(), np.random.default_rng(0), patches=20)
    np.testing.assert_allclose(found, 0, atol=1e-4)


@pytest.fixture(scope="module")
def drawn():
    net = planted.subject_of(planted.colours_net({}))
    return net, *synthesise(net, COLOUR, range(6), SynthesisSettings(), np.random.default_rng(0))


def test_a_picture_is_drawn_of_every_class(drawn):
    net, pictures, labels = drawn
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert pictures.shape == (6, *COLOUR)
    assert pictures.dtype == np.float32
    assert pictures.min() >= 0
    assert pictures.max() <= 255
    assert (net.logits(pictures).argmax(1) == labels).all()
    for picture, colour in zip(pictures, planted.COLOURS[labels] == 1, strict=True):
        shade = picture.mean(axis=(0, 1))
        assert shade[colour].min() > shade[~colour].max(), "it has the colour that pictures of its class have"


def test_drawn_pictures_are_smoother_than_those_that_only_the_margin_drives(drawn):
    net, pictures, _ = drawn
    sharp, _ = synthesise(net, COLOUR, range(6), SynthesisSettings(smoothness=0.0), np.random.default_rng(0))
    roughness = [np.abs(np.diff(x, axis=1)).mean() + np.abs(np.diff(x, axis=2)).mean() for x in (pictures, sharp)]
    assert roughness[0] < 0.9 * roughness[1]


def test_a_class_that_is_never_answered_has_no_picture():
    net = planted.subject_of(planted.planted())
    pictures, labels = synthesise(
        net, (8, 8, 1), [planted.TARGET, planted.DEAD], SynthesisSettings(), np.random.default_rng(0)
    )
    assert labels.tolist() == [planted.TARGET]
    assert (margins(net.logits(pictures), labels) > 0).all()


def test_seed_decides_what_is_drawn(drawn):
    net, pictures, _ = drawn
    again, other = (synthesise(net, COLOUR, range(6), SynthesisSettings(), np.random.default_rng(s))[0] for s in (0, 1))
    np.testing.assert_array_equal(again, pictures)
    assert other.shape != pictures.shape or (other != pictures).any()
