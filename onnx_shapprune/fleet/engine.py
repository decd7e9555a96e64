"""Executors: threads that each watch one child process, or the workers of a Dask cluster."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

from onnx_shapprune.errors import EngineError


@contextmanager
def local_executor(jobs: int) -> Iterator[Executor]:
    """So many models at a time on this machine."""
    with ThreadPoolExecutor(jobs, thread_name_prefix="shapprune") as executor:
        yield executor


@contextmanager
def dask_executor(scheduler: str, *, gpu: bool) -> Iterator[Executor]:
    """The workers of a Dask cluster. gpu: only those that offer the resource GPU, one model per unit of it.

    Raises EngineError where Dask is not installed or the scheduler does not answer.
    """
    try:
        from distributed import Client
    except ImportError:
        raise EngineError("--scheduler needs Dask: pip install 'onnx-shapprune[dask]'") from None
    try:
        client = Client(scheduler, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise EngineError(f"no Dask scheduler at {scheduler}: {error or type(error).__name__}") from None
    with client:
        # retries: what a model does is no exception, and the batch counts the workers that were lost.
        settings = {"pure": False, "retries": 0, **({"resources": {"GPU": 1}} if gpu else {})}
        executor: Executor = client.get_executor(**settings)  # type: ignore[no-untyped-call]
        yield executor
