"""Fixtures of several folders. That the file stands here also puts this folder on the path: tests import `models`."""

import signal
from pathlib import Path

import models
import numpy as np
import pytest

# A shell's background job ignores interrupts, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.vgg_maxpool().SerializeToString())
    return path


@pytest.fixture
def pictures(tmp_path) -> Path:
    path = tmp_path / "pictures.npz"
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    np.savez(path, x=x, y=np.arange(4))
    return path
