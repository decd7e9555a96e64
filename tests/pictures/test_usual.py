"""The usual settings as data: none twice, and options that give them back."""

import shlex

import numpy as np
import pytest

from onnx_shapprune.pictures.preprocess import Preprocessing, parse_numbers, to_input
from onnx_shapprune.pictures.usual import USUAL, Setting, flags, nearly_the_same, to_try


@pytest.mark.parametrize("channels", [1, 3])
def test_every_setting_is_tried_once_and_gives_other_numbers(channels):
    tried = to_try(channels, (), Preprocessing(layout="NHWC"))
    ramp = np.arange(12 * channels, dtype=np.uint8).reshape(1, 3, 4, channels) * 5
    inputs = {to_input(ramp, t.preprocessing).round(4).tobytes() for t in tried}
    assert len(inputs) == len(tried) == (5 if channels == 1 else 2 * len(USUAL))
    assert {t.preprocessing.layout for t in tried} == {"NHWC"}


def test_what_was_given_stands_first_under_its_usual_name():
    own = Setting("as given", "", Preprocessing(mean=(0.5,), std=(0.5,)))
    assert to_try(1, (own,), own.preprocessing)[0].name == "-1 to 1, as given"
    odd = Setting("as given", "", Preprocessing(mean=(0.2,), channel_order="BGR"))
    first, second, *_ = to_try(3, (odd,), odd.preprocessing)
    assert (first.preprocessing, second.preprocessing.channel_order) == (odd.preprocessing, "RGB")


@pytest.mark.parametrize("setting", to_try(3, (), Preprocessing()), ids=lambda s: flags(s.preprocessing))
def test_flags_give_the_setting_back(setting):
    words, read = shlex.split(flags(setting.preprocessing)), {}
    while words:
        name = words.pop(0).removeprefix("--").replace("-", "_")
        count = 2 if name == "input_range" else 1
        value, words = " ".join(words[:count]), words[count:]
        read[name] = value if name == "channel_order" else parse_numbers(value, option=name)
    assert Preprocessing(**read) == setting.preprocessing


def test_only_what_no_picture_can_tell_is_nearly_the_same():
    by_name = {s.name: s.preprocessing for s in USUAL}
    same = [(a, b) for a in by_name for b in by_name if a < b and nearly_the_same(by_name[a], by_name[b])]
    assert same == [("0 to 1", "scale 1/256")]
