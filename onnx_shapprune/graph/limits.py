"""What a model file may ask for. Apart from the checks, so that settings do not load onnx."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What a file may ask for.

    file_mib: size of the model file and of each data file; nodes: with local functions written out; depth: of subgraphs
    and of functions that call each other; generated_mib: all tensors that operators make out of constants; trips: of
    nested loops together.
    """

    file_mib: int = 2047  # protobuf holds less than 2 GiB in one message
    nodes: int = 50_000
    depth: int = 32
    generated_mib: int = 512
    trips: int = 10_000
