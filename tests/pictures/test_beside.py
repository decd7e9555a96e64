"""What is read beside a model: as Transformers, timm and MLflow write it, strictly, and only where the user says nothing."""

import json

import pytest

from onnx_shapprune.case.beside import with_found
from onnx_shapprune.errors import DataError, ModelError
from onnx_shapprune.pictures.beside import beside, model_in
from onnx_shapprune.pictures.mlmodel import onnx_file, picture_shape, scalars
from onnx_shapprune.settings import InputOptions

# As google/vit-base-patch16-224 and facebook/convnext-tiny-224 have them, shortened; resnet-18 of timm.
VIT = {
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": 224,
}
CONVNEXT = VIT | {"image_mean": [0.485, 0.456, 0.406], "size": {"shortest_edge": 224}, "crop_pct": 0.875}
CLIP = VIT | {"do_center_crop": True, "crop_size": {"height": 32, "width": 48}, "size": {"shortest_edge": 64}}
TIMM = {
    "label_names": ["cat", "dog"],
    "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 32, 48], "crop_pct": 0.9},
}
# Written by MLflow 2.x; YAML breaks long texts at blanks.
MLMODEL = """artifact_path: model
flavors:
  onnx:
    code: null
    data: model.onnx
    providers:
    - CUDAExecutionProvider
    - CPUExecutionProvider
  python_function:
    data: other.onnx
    loader_module: mlflow.onnx
mlflow_version: 2.9.2
signature:
  inputs: '[{"name": "it''s", "type": "tensor", "tensor-spec": {"dtype": "float32",
    "shape": [-1, 3, 32, 48]}}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 10]}}]'
"""


@pytest.fixture
def snapshot(tmp_path):
    """A folder with these files, JSON where they are mappings; gives the path of the model."""

    def make(model: str = "model.onnx", **files: object):
        path = tmp_path / model
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        for name, content in files.items():
            name = {"config": "config.json", "preprocessor": "preprocessor_config.json"}.get(name, name)
            (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return make


def settings(model):
    return {name: value for name, (value, _) in beside(model).settings.items()}


def test_transformers(snapshot):
    found = settings(snapshot(preprocessor=VIT))
    half = (0.5, 0.5, 0.5)
    assert found == {"input_range": (0.0, 1.0), "mean": half, "std": half, "size": (224, 224)}
    assert "size" not in settings(snapshot(preprocessor=CONVNEXT)), "an edge is no size"
    cut = settings(snapshot(preprocessor=CLIP))
    assert (cut["resize"], cut["size"]) == ("crop", (32, 48))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"do_rescale": False}, {"input_range": (0.0, 255.0)}),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True}, {"input_range": (-1.0, 1.0)}),
        ({"rescale_factor": 0.00392156862745098}, {"input_range": (0.0, 1.0)}),
        ({"do_rescale": True, "do_normalize": False, "image_mean": [0.5] * 3}, {"input_range": (0.0, 1.0)}),
        ({"do_flip_channel_order": True}, {"channel_order": "BGR"}),
        ({"size": {"height": 8, "width": 9}}, {"size": (8, 9)}),
        ({"size": -1}, {}),
        ({"size": {"height": True, "width": 9}}, {}),
        ({}, {}),
    ],
)
def test_each_setting_of_transformers(snapshot, said, expected):
    assert settings(snapshot(preprocessor=said)) == expected


def test_what_has_no_option_is_said(snapshot):
    (remark,) = beside(snapshot(preprocessor=VIT | {"include_top": True})).remarks
    assert "include_top has no option here" in remark


def test_timm_and_class_names(snapshot, tmp_path):
    found = settings(snapshot(config=TIMM))
    assert found["mean"] == (0.1, 0.2, 0.3)
    assert (found["size"], found["resize"], found["class_names"]) == ((32, 48), "crop", tmp_path / "config.json")
    assert "class_names" not in settings(snapshot(config={"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}))


def test_mlflow(snapshot):
    model = snapshot(MLmodel=MLMODEL)
    assert model_in(model.parent) == model
    assert settings(model) == {"layout": "NCHW", "size": (32, 48)}
    (model.parent / "b.onnx").write_bytes(b"")
    assert settings(model.parent / "b.onnx") == {}, "the signature is of the file that MLmodel names"


def test_mlmodel_is_read_strictly():
    said = scalars(MLMODEL)
    assert (onnx_file(said), picture_shape(said)) == ("model.onnx", ("NCHW", (32, 48)))
    assert picture_shape(scalars(MLMODEL.replace("-1, 3, 32, 48", "-1, 32, 48, 3"))) == ("NHWC", (32, 48))
    for shape in ("-1, 3, -1, 48", "-1, 32, 48, 4", "-1, 784", '-1, 3, "a", 4', "-1, 3, true, 4"):
        assert picture_shape(scalars(MLMODEL.replace("-1, 3, 32, 48", shape))) is None
    assert onnx_file(scalars("flavors:\n  sklearn:\n    data: model.onnx\n")) is None
    for place in ("../model.onnx", "/etc/model.onnx", "a/../../model.onnx", "model.pkl"):
        with pytest.raises(DataError, match=r"flavors.onnx.data is"):
            onnx_file(scalars(MLMODEL.replace("data: model.onnx", f"data: {place}")))
    with pytest.raises(DataError, match="stands twice"):
        scalars("flavors:\n  onnx:\n    data: a.onnx\n    data: b.onnx\n")
    with pytest.raises(DataError, match="quote that does not end"):
        scalars("signature:\n  inputs: 'a\n")


@pytest.mark.parametrize("place", ["model.onnx", "onnx/model.onnx", "data/model.onnx"])
def test_the_only_file_is_the_model(snapshot, place):
    model = snapshot(place, preprocessor=VIT)
    folder = model.parents[place.count("/")]
    assert model_in(folder) == model
    assert settings(model)["size"] == (224, 224), "what lies around onnx/ describes what is in it"


def test_several_files_are_listed(snapshot, tmp_path):
    snapshot("onnx/model.onnx")
    snapshot("onnx/model_quantized.onnx")
    with pytest.raises(ModelError, match=r"holds 2 .onnx files, .*: onnx/model.onnx, onnx/model_quantized.onnx$"):
        model_in(tmp_path)


def test_no_file_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"holds no \.onnx file"):
        model_in(tmp_path)


def test_a_cache_of_links_is_a_root(snapshot, tmp_path):
    model = snapshot("models--x--y/snapshots/abc/model.onnx")
    assert settings(model) == {"allow_root": tmp_path / "models--x--y"}
    assert settings(snapshot("snapshots/abc/model.onnx")) == {}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"preprocessor": "{"}, "preprocessor_config.json is no JSON"),
        ({"config": "[1]"}, "config.json is no JSON object"),
        ({"preprocessor": VIT | {"image_mean": ["x"]}}, "image_mean beside the model is no list of numbers"),
        ({"preprocessor": VIT | {"image_std": [0, 1, 1]}}, "make no preprocessing: std must be above 0"),
        ({"preprocessor": VIT | {"rescale_factor": "1"}}, "rescale_factor is no number"),
        ({"preprocessor": VIT | {"rescale_factor": float("nan")}}, "make no preprocessing"),
        ({"config": "[" * 100_000}, "no JSON"),
        ({"MLmodel": "a: 'b"}, "does not end"),
    ],
)
def test_what_cannot_be_read_is_one_line(snapshot, files, words):
    with pytest.raises(DataError, match=words) as caught:
        beside(snapshot(**files))
    assert "\n" not in str(caught.value)


def test_the_user_wins_and_both_are_said(snapshot):
    model = snapshot(preprocessor=VIT)
    given = InputOptions(mean=(0.1,))
    inputs = with_found(given, model, {"mean"})
    assert (inputs.mean, inputs.std, inputs.size) == ((0.1,), (0.5, 0.5, 0.5), (224, 224))
    assert "--std 0.5 0.5 0.5 from preprocessor_config.json (image_std)" in inputs.found
    assert "--mean as given, not 0.5 0.5 0.5 from preprocessor_config.json (image_mean)" in inputs.found
    assert with_found(given, snapshot("plain/model.onnx"), ()) == given
