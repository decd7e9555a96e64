"""Files that are broken or try to read what they should not: one line each that says so."""

import os

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.graph.limits import FileLimits


@pytest.fixture
def model_bytes() -> bytes:
    return models.vgg_maxpool().SerializeToString()


def refused(path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_hashed_is_what_is_parsed(tmp_path, model_bytes):
    (tmp_path / "m.onnx").write_bytes(model_bytes)
    file = load_model(tmp_path / "m.onnx")
    assert (file.size, file.payload, file.external) == (len(model_bytes), model_bytes, ())
    assert file.proto is file.loaded
    assert len(file.sha256) == 64


def test_missing_directory_empty_and_fifo(tmp_path):
    assert "not found" in refused(tmp_path / "none.onnx")
    assert "not a regular file" in refused(tmp_path)
    (tmp_path / "empty").touch()
    assert "is empty" in refused(tmp_path / "empty")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(tmp_path / "pipe")
    assert "is no path" in refused(tmp_path / "nul\0byte")


def test_truncated_and_random_bytes(tmp_path, model_bytes):
    path = tmp_path / "m.onnx"
    path.write_bytes(model_bytes[: len(model_bytes) // 2])
    assert "cannot be parsed" in refused(path)
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 26394\n")
    assert "git lfs pull" in refused(path)
    rng = np.random.default_rng(0)
    for size in (1, 10, 1000, 20_000):
        path.write_bytes(rng.bytes(size))
        assert "not an ONNX" in refused(path)


def test_limit_and_checker(tmp_path, model_bytes):
    path = tmp_path / "m.onnx"
    path.write_bytes(model_bytes)
    with pytest.raises(ModelError, match=f"{len(model_bytes)} bytes, more than the limit of 0"):
        load_model(path, limits=FileLimits(file_mib=0))
    broken = onnx.ModelProto.FromString(model_bytes)
    broken.graph.node[0].input[0] = "nowhere"
    path.write_bytes(broken.SerializeToString())
    assert "the onnx checker refuses" in refused(path)


def with_external(folder, **entries: str) -> onnx.ModelProto:
    """A saved model whose first weight lies outside; entries are its external_data keys."""
    model = models.vgg_maxpool()
    tensor = model.graph.initializer[0]
    (folder / "data.bin").write_bytes(b"\1" * 16 + tensor.raw_data)
    size = str(len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "data.bin", "offset": "16", "length": size} | entries).items():
        tensor.external_data.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return model


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 100_000)
    return inside


def test_external_data_in_the_folder_is_inlined_and_hashed(folder):
    with_external(folder)
    file = load_model(folder / "m.onnx")
    assert file.loaded == models.vgg_maxpool() or file.loaded.graph.initializer[0].raw_data == (
        models.vgg_maxpool().graph.initializer[0].raw_data
    )
    assert file.proto.graph.initializer[0].data_location == TensorProto.EXTERNAL
    (external,) = file.external
    assert (external.location, external.size) == ("data.bin", (folder / "data.bin").stat().st_size)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"location": "../secret.bin"}, "points outside the model's folder"),
        ({"location": "x/../../secret.bin"}, "points outside the model's folder"),
        ({"location": "/etc/passwd"}, "points outside the model's folder"),
        ({"location": "none.bin"}, "external data file not found"),
        ({"location": ""}, "is malformed"),
        ({"location": "a\0b"}, "is no path"),
        ({"surprise": "1"}, "is malformed"),
        ({"offset": "-1"}, "has a broken offset: '-1'"),
        ({"length": "-1"}, "has a broken length: '-1'"),
        ({"offset": "99999999"}, "bytes from 99,999,999 on"),
        ({"length": "99999999"}, "is 99,999,999 of"),
        ({"offset": "many"}, "has a broken offset: 'many'"),
        ({"offset": "9" * 5000}, "has a broken offset"),
        ({"length": "4"}, "its shape asks for 540"),
    ],
)
def test_external_data_is_refused(folder, entries, reason):
    with_external(folder, **entries)
    assert reason in refused(folder / "m.onnx")


def test_absolute_location_is_refused_even_inside_the_folder(folder):
    with_external(folder, location=str(folder / "data.bin"))
    assert "points outside" in refused(folder / "m.onnx")


def test_links_out_of_the_folder_are_refused(folder):
    with_external(folder, location="link.bin")
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    assert "leads out of the model's folder" in refused(folder / "m.onnx")
    (folder / "link.bin").unlink()
    (folder / "link.bin").symlink_to("link.bin")
    assert "is a loop of links" in refused(folder / "m.onnx")


def test_external_data_of_a_constant_node_is_read_here_too(folder, monkeypatch):
    """onnx and onnxruntime would look it up from the working directory."""
    value = numpy_helper.from_array(np.zeros((4, 4), np.float32), "v")
    value.ClearField("raw_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="../secret.bin")
    value.external_data.add(key="length", value="64")
    model = models.vgg_maxpool()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["k"], value=value))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir(folder)
    assert "points outside" in refused(folder / "m.onnx")
