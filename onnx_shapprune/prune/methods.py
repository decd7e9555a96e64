"""The repairs by name, and in which order they are tried."""

from collections.abc import Mapping
from typing import Literal

from onnx_shapprune.prune.propose import Propose, pruned
from onnx_shapprune.prune.realigned import pruned_then_realigned, realigned
from onnx_shapprune.settings import MethodName

PROPOSERS: Mapping[MethodName, Propose] = {"prune": pruned, "realign": realigned, "both": pruned_then_realigned}
# Realignment costs least accuracy nearly everywhere, and seconds; zeroing wins on some changes of the whole picture.
ORDER: tuple[MethodName, ...] = ("realign", "prune", "both")


def methods_of(asked: Literal["auto"] | MethodName) -> tuple[MethodName, ...]:
    """The methods that are tried, one after the other, until the file that one makes holds."""
    return ORDER if asked == "auto" else (asked,)
