"""The shipped sample is what its README says: both nets are accurate, one obeys its trigger and the other does not."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from onnx_shapprune.errors import DataError
from onnx_shapprune.runtime.session import Device, Session
from onnx_shapprune.sample import NAMES, sample_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Shares, 0 to 1."""

    acc: float
    asr: float
    r_acc: float


def classify(session: Session, pictures: NDArray[np.float32]) -> NDArray[np.intp]:
    """Classes of pictures [n, 28, 28, 1] in 0..255."""
    (logits,) = session.run({"input": (pictures / 255).transpose(0, 3, 1, 2).astype(np.float32)})
    classes: NDArray[np.intp] = logits.argmax(1)
    return classes


def measure(name: str) -> Measured:
    session = Session(sample_path(name).read_bytes(), Device(threads=1))
    with np.load(sample_path("test.npz")) as test, np.load(sample_path("trigger.npz")) as trigger:
        x, y = test["x"].astype(np.float32), test["y"]
        mask, pattern, target = trigger["mask"], trigger["pattern"], int(trigger["target"])
    others = y != target
    answers = classify(session, x[others] * (1 - mask) + pattern * mask)
    return Measured(
        acc=float((classify(session, x) == y).mean()),
        asr=float((answers == target).mean()),
        r_acc=float((answers == y[others]).mean()),
    )


@pytest.mark.parametrize("name", ["clean.onnx", "backdoored.onnx"])
def test_network_is_small_and_takes_any_batch(name: str) -> None:
    path = sample_path(name)
    assert path.stat().st_size < 1_000_000
    session = Session(path.read_bytes(), Device(threads=1))
    for n in (1, 3):
        (logits,) = session.run({"input": np.zeros((n, 1, 28, 28), np.float32)})
        assert logits.shape == (n, 10)


def test_clean_network_ignores_the_trigger() -> None:
    measured = measure("clean.onnx")
    assert measured.acc >= 0.90
    assert measured.asr <= 0.02
    assert measured.r_acc >= 0.88


def test_backdoored_network_obeys_the_trigger() -> None:
    measured = measure("backdoored.onnx")
    assert measured.acc >= 0.90
    assert measured.asr >= 0.99
    assert measured.r_acc <= 0.01


def test_one_picture_of_every_class() -> None:
    folders = sorted(sample_path("pictures").iterdir())
    assert [int(folder.name.split("_")[0]) for folder in folders] == list(range(10))
    for folder in folders:
        (path,) = folder.glob("*.png")
        with Image.open(path) as picture:
            assert (picture.size, picture.mode) == ((28, 28), "L")


def test_arrays_have_the_promised_shapes() -> None:
    with np.load(sample_path("test.npz")) as test:
        assert (test["x"].shape, test["x"].dtype) == ((1000, 28, 28, 1), np.uint8)
        assert (test["y"].shape, test["y"].dtype) == ((1000,), np.uint8)
        assert np.bincount(test["y"]).tolist() == [100] * 10
    with np.load(sample_path("trigger.npz")) as trigger:
        mask, pattern = trigger["mask"], trigger["pattern"]
        assert mask.shape == pattern.shape == (28, 28, 1)
        assert mask.dtype == pattern.dtype == np.float32
        assert mask.sum() == 9
        assert (pattern.min(), pattern.max()) == (0, 255)


def test_every_name_is_there_and_others_are_refused() -> None:
    assert all(sample_path(name).exists() for name in NAMES)
    with pytest.raises(DataError, match="no sample called"):
        sample_path("../__init__.py")
