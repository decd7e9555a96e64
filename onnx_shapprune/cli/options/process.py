"""The child process that works on a file, and what it may use."""

from onnx_shapprune.cli.options.declare import bundled, option
from onnx_shapprune.cli.sections import LIMITS
from onnx_shapprune.cli.values import Number
from onnx_shapprune.isolation.limits import ProcessLimits

TIMEOUT = option(
    LIMITS,
    "--timeout",
    type=Number(0, above=True, off=True),
    default=3600,
    show_default=True,
    help="Seconds after which nothing can be told any more; off: no limit.",
)
MEMORY = option(
    LIMITS,
    "--memory-limit",
    type=Number(256, off=True),
    default=8192,
    show_default=True,
    help="Address space in MiB for the work on the file (not with CUDA); off: no limit.",
)
IN_PROCESS = option(
    LIMITS,
    "--in-process",
    is_flag=True,
    envvar="SHAPPRUNE_IN_PROCESS",
    help="Work on the file in this process, without limits: for debugging and files you trust.",
)


def _process(timeout: float | None, memory_limit: float | None, in_process: bool = False) -> ProcessLimits | None:
    memory = None if memory_limit is None else int(memory_limit)
    return None if in_process else ProcessLimits(seconds=timeout, memory_mib=memory)


# Both arrive as `process`; with the second it is None where there is to be no child.
limit_options = bundled("process", _process, TIMEOUT, MEMORY)
process_options = bundled("process", _process, TIMEOUT, MEMORY, IN_PROCESS)
