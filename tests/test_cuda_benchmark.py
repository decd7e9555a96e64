"""What the GPU benchmark compares, with the CPU in both places, and what it says without a GPU."""

import json

import models
import numpy as np
import onnx
import pytest
from benchmarks import cuda
from benchmarks.random_nets import MADE, resnet18, some_pictures, vit

from onnx_shapprune.runtime.session import CPU, Device, Session

DEVICE = Device(threads=1)


def test_without_a_gpu_it_ends_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(cuda, "available_providers", lambda: [CPU])
    monkeypatch.setattr("sys.argv", ["cuda"])
    with pytest.raises(SystemExit) as ended:
        cuda.main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "nothing measured, there is no GPU to run on: this onnxruntime has no CUDA provider\n"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("cuda") / "net.onnx"
    onnx.save(resnet18(32, classes=4, width=4), path)
    pictures = some_pictures(cuda.PICTURES, 32).astype(np.float32)
    return cuda.compared(path, pictures, DEVICE, DEVICE)


def test_two_runs_on_one_device_agree(found):
    assert set(found) == {"gradient", "search", "game", "repair"}
    assert cuda.far({"net": found}) == []
    assert all(f["seconds"] > 0 for f in found.values())


def test_what_differs_is_told(found):
    other = {**found, "game": {**found["game"], "difference": 0.5}}
    assert cuda.far({"net": other}) == ["net: game differs by 0.5"]
    assert "| net | game |" in cuda.table({"net": other})
    json.dumps(other)


def test_nodes_are_counted_by_the_provider_that_ran_them(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(models.vgg_maxpool(), path)
    counted = cuda.by_provider(cuda.open_model(path, cuda.InputOptions(), DEVICE).subject)
    assert set(counted) == {CPU}
    assert counted[CPU] > 5


def test_values_stay_where_the_graph_runs(monkeypatch):
    monkeypatch.setattr(cuda, "LEAST", 0.01)
    model = models.vgg_maxpool()
    seen = cuda.runs(model, models.pictures(model, 2), DEVICE)
    assert seen["values stay on"] == "cpu"
    assert seen["resident, ms"] > 0


@pytest.mark.parametrize("name", MADE)
def test_random_networks_answer_unlike_pictures_unlike(name):
    size = 32 if name != "vit" else 64
    model = vit(size, depth=2) if name == "vit" else MADE[name](size)
    x = np.moveaxis(some_pictures(24, size, seed=5).astype(np.float32) / 255, 3, 1)
    (scores,) = Session(model, DEVICE).run({"x": x})
    assert len(np.unique(scores.argmax(1))) > 2
