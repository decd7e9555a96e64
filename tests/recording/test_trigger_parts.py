"""Triggers in a record: what is drawn is what was found and tried, and never more than fits."""

import base64
import io

import numpy as np
import planted
import pytest
from hand_made import CALIBRATION, FAMILIES, clean, planted_in
from PIL import Image

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.detect.examination import Examination
from onnx_shapprune.detect.suspicion import suspicion_of
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.recording import triggers as gallery
from onnx_shapprune.recording.triggers import trigger_parts

LABELS = np.array([3, 0, 1, 2, 4], np.int64)


class Brightness(planted.InTurn):
    """Stands in for a network: class 3 by the brightness of the upper left pixel, class 0 otherwise."""

    def logits(self, pictures):
        logits = np.zeros((len(pictures), 5), np.float32)
        logits[:, 3] = (pictures[:, 0, 0, 0] - 100) / 10
        return logits


def pixels(text):
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image)


def corner(size=(8, 6), goal=Goal(3)):  # noqa: B008  # frozen
    mask = np.zeros((*size, 1), np.float32)
    mask[:2, :2] = 1
    return Trigger.replacing(mask, np.full((*size, 3), 255, np.float32), goal, "compact")


def dark(size=(8, 6)):
    return np.full((5, *size, 3), 10, np.float32)


def examined(evidence):
    return Examination(
        tuple(evidence), len(evidence), len(evidence), None, (), suspicion_of(evidence, None, CALIBRATION, FAMILIES)
    )


def test_pictures_are_those_that_the_trigger_is_to_move_and_their_answers_the_models():
    (part,) = trigger_parts(Shown.to(Brightness(), dark(), LABELS), [corner()], None)
    assert (part.kind, part.targets, part.family, part.named, part.added) == (
        "all-to-one",
        (3,),
        "compact",
        True,
        False,
    )
    assert (part.norm, part.reduced) == (4, 1)
    assert [t.label for t in part.tried] == [0, 1, 2]
    for tried in part.tried:
        assert (tried.clean_class, tried.applied_class) == (0, 3)
        assert tried.applied_probability == pytest.approx(1 / (1 + 4 * np.exp(-15.5)))
        assert (pixels(tried.clean) == 10).all()
        assert (pixels(tried.applied)[:2, :2] == 255).all()
        assert (pixels(tried.applied)[2:] == 10).all()
    assert np.array_equal(pixels(part.mask), corner().mask[..., 0] * 255)
    assert pixels(part.pattern).shape == (8, 6, 3)


def test_leading_classes_are_shown_beside_what_was_named():
    found = examined(planted_in(clean(), 3))
    pictures = dark((10, 10))
    parts = trigger_parts(Shown.to(Brightness(), pictures, LABELS), found.suspicion.triggers[Goal(3)], found)
    assert parts[0].targets == (3,)
    assert {p.targets for p in parts if p.named} == {(3,)}
    others = [p for p in parts if not p.named]
    assert len(others) == len({p.targets for p in others}) == gallery.LEADERS - 1
    assert {p.family for p in others} == {"compact"}


def test_a_clean_model_shows_its_leaders():
    parts = trigger_parts(Shown.to(Brightness(), dark((10, 10)), LABELS), [], examined(clean()))
    assert [p.named for p in parts] == [False] * gallery.LEADERS


def test_no_picture_to_move():
    (part,) = trigger_parts(Shown.to(Brightness(), dark()[:1], LABELS[:1]), [corner()], None)
    assert part.tried == ()


def test_large_pictures_are_shown_as_means_of_blocks():
    (part,) = trigger_parts(Shown.to(Brightness(), dark((330, 200)), LABELS), [corner((330, 200))], None)
    assert part.reduced == 3
    assert pixels(part.mask).shape == (110, 66)
    assert pixels(part.mask)[0, 0] == round(255 * 4 / 9)


def test_less_is_kept_where_all_of_it_does_not_fit(monkeypatch):
    noise = np.random.default_rng(0).uniform(0, 255, (5, 40, 40, 3)).astype(np.float32)
    several = [corner((40, 40)) for _ in range(4)]
    every = trigger_parts(Shown.to(Brightness(), noise, LABELS), several, None)
    size = gallery._characters(every)
    monkeypatch.setattr(gallery, "MAX_CHARACTERS", size // 2)
    fewer = trigger_parts(Shown.to(Brightness(), noise, LABELS), several, None)
    assert [len(p.tried) for p in fewer] == [1] * 4
    monkeypatch.setattr(gallery, "MAX_CHARACTERS", size // 8)
    fewest = trigger_parts(Shown.to(Brightness(), noise, LABELS), several, None)
    assert 0 < len(fewest) < 4
    assert fewest == fewer[: len(fewest)]
    assert gallery._characters(fewest) <= size // 8
