"""What the driver says of a GPU, with a driver that is not there and with a made-up one."""

import ctypes

import pytest

from onnx_shapprune.runtime.cuda import total_memory


class Driver:
    def __init__(self, *, fails: str = "") -> None:
        self.fails = fails

    def cuInit(self, flags):  # noqa: N802
        return 100 if self.fails == "cuInit" else 0

    def cuDeviceGet(self, device, index):  # noqa: N802
        ctypes.cast(device, ctypes.POINTER(ctypes.c_int))[0] = 10 + index
        return 101 if self.fails == "cuDeviceGet" else 0

    def cuDeviceTotalMem_v2(self, size, device):  # noqa: N802
        ctypes.cast(size, ctypes.POINTER(ctypes.c_size_t))[0] = device.value << 30
        return 201 if self.fails == "cuDeviceTotalMem_v2" else 0


def test_memory_of_a_device(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: Driver())
    assert total_memory(2) == 12 << 30


@pytest.mark.parametrize("fails", ["cuInit", "cuDeviceGet", "cuDeviceTotalMem_v2"])
def test_a_driver_that_does_not_say(monkeypatch, fails):
    monkeypatch.setattr("ctypes.CDLL", lambda name: Driver(fails=fails))
    assert total_memory(0) == 0


def test_no_driver(monkeypatch):
    def none(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", none)
    assert total_memory(0) == 0
