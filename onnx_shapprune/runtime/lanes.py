"""Independent runs side by side, one thread each.

On a CPU the batches of a search are small, so that their activations stay in the cache; threads that share the operators of
such a batch wait for each other most of the time. Measured on two cores: an audit of the sample takes as long with two
threads in onnxruntime as with one, and an unlearning half as long again with two threads in BLAS.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TypeVar

import onnx
from threadpoolctl import ThreadpoolController

from onnx_shapprune.runtime.cores import usable_cores
from onnx_shapprune.runtime.session import CPU, Device, Session

Part = TypeVar("Part")
Result = TypeVar("Result")

_here = threading.local()  # lane: whether this thread is one


def threads_of(device: Device) -> int:
    """How many threads may work here, whatever the graphs run on."""
    return device.threads or usable_cores()


def lanes_of(device: Device) -> int:
    """How many runs go side by side on a device: on a CPU as many as it may use threads, on a GPU one."""
    return threads_of(device) if device.provider == CPU else 1


def session_beside(
    model: onnx.ModelProto, device: Device, lanes: int | None = None, weights: onnx.ModelProto | None = None
) -> Session:
    """A session whose runs go side by side: each has a thread of its own or, where there is one lane, all of them.
    weights: as of a Session.
    """
    lanes = lanes_of(device) if lanes is None else lanes
    return Session(model, replace(device, threads=1) if lanes > 1 else device, weights=weights)


def side_by_side(run: Callable[[Part], Result], parts: Sequence[Part], lanes: int) -> list[Result]:
    """The results of `run`, as of `in_order`."""
    return list(in_order(run, parts, lanes))


def in_order(run: Callable[[Part], Result], parts: Sequence[Part], lanes: int) -> Iterator[Result]:
    """The results of `run` in the order of the parts, each as soon as it and those before it are there. The first error is
    raised. What is asked for within a lane is done there, one after the other.
    """
    if lanes == 1 or len(parts) < 2 or in_lane():
        return map(run, parts)
    return _pool(lanes).map(run, parts)


def in_lane() -> bool:
    """Whether this is one of the threads that run side by side."""
    return getattr(_here, "lane", False)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """BLAS with one thread, for products that are made side by side."""
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> ThreadpoolController:
    """Those that are loaded; looking for them takes milliseconds, and every layer of a fit asks."""
    return ThreadpoolController()


@cache
def _pool(lanes: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(lanes, thread_name_prefix="lane", initializer=lambda: setattr(_here, "lane", True))
