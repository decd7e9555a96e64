"""The shared libraries that onnxruntime needs for CUDA, and what the driver says of a device."""

import contextlib
import ctypes
import sys

import onnxruntime as ort

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def loads(library: str) -> bool:
    """Whether the system finds and loads a shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def preload() -> None:
    """Let onnxruntime load the CUDA and cuDNN libraries that pip installed."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(sys.stderr):  # it prints; stdout belongs to the result
            ort.preload_dlls()


def missing_libraries() -> tuple[str, ...]:
    """Libraries for CUDA 13 that do not load on this Linux machine, those that pip installed included."""
    wanted = (DRIVER, "libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcufft.so.12", "libcudnn.so.9")
    if not loads(DRIVER):  # nothing else is of use then, and preloading complains about it
        return (DRIVER,)
    preload()
    return tuple(name for name in wanted if sys.platform == "linux" and not loads(name))


def total_memory(index: int) -> int:
    """Bytes of memory of a CUDA device, whether they are free or not; 0 where the driver does not say."""
    device, size = ctypes.c_int(), ctypes.c_size_t()
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return 0
    failed = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index)
    failed = failed or driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    return 0 if failed else size.value
