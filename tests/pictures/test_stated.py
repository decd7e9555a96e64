"""What exporters leave about pictures, read from pairs that anybody may have written."""

import json

import pytest

from onnx_shapprune.pictures.preprocess import Preprocessing
from onnx_shapprune.pictures.stated import stated

WINDOWS = {"Image.BitmapPixelFormat": "Bgr8", "Image.ColorSpaceGamma": "SRGB"}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (WINDOWS | {"Image.NominalPixelRange": "NominalRange_0_255"},
         Preprocessing(input_range=(0, 255), channel_order="BGR")),
        (WINDOWS | {"Image.NominalPixelRange": "Normalized_1_1", "Image.BitmapPixelFormat": "Rgb8"},
         Preprocessing(input_range=(-1, 1))),
        ({"names": "{0: 'cat', 1: 'dog'}", "imgsz": "[64, 64]", "stride": "32", "task": "classify"}, Preprocessing()),
        ({"mean": "[0.485, 0.456, 0.406]", "std": "0.229 0.224 0.225"},
         Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))),
        ({"pixel_mean": "123.68,116.779,103.939"},
         Preprocessing(input_range=(0, 255), mean=(123.68, 116.779, 103.939))),
        ({"pretrained_cfg": json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 64, 64]})},
         Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)),
        ({"normalization_options": json.dumps({"options": {"mean": [127.5], "std": [127.5]}})},
         Preprocessing(input_range=(0, 255), mean=(127.5,), std=(127.5,))),
        ({"rescale_factor": "1.0"}, Preprocessing(input_range=(0, 255))),
        ({"author": "somebody", "description": "a mean model of 0.5"}, None),
        ({"mean": "nan"}, None),
        ({"mean": "0.5", "std": "0"}, None),
        ({"mean": "0.1,0.2"}, None),
        ({"input_range": "1 0"}, None),
    ],
)  # fmt: skip
def test_what_is_asked_for(metadata, expected):
    found = stated(tuple(metadata.items()))
    assert found.preprocessing == expected
    assert {k for k, _ in found.pairs} == set(metadata) - {"author", "description", "stride"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{0: 'cat', 1: \"dog's\", 2: 'a: b'}", ("cat", "dog's", "a: b")),
        ('{"1": "dog", "0": "cat"}', ("cat", "dog")),
        ('["cat", "dog"]', ("cat", "dog")),
        ("cat, dog", ("cat", "dog")),
        ("{0: 'cat', 2: 'dog'}", ()),
        ("[1, 2]", ()),
        ("cat", ()),
    ],
)
def test_class_names(text, names):
    assert stated((("names", text),)).class_names == names


@pytest.mark.parametrize("value", ["[" * 60_000, '{"a":' * 20_000, "{0:'" * 16_000, "1," * 30_000, "\x00"])
@pytest.mark.parametrize("key", ["names", "mean", "input_range", "preprocessor_config"])
def test_what_is_no_sense_is_nothing(key, value):
    assert stated(((key, value),)).preprocessing is None
