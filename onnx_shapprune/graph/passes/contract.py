"""What a pass is: a function on the working copy, with what it may rely on and what it promises, both of which can be
checked. The idea of pre- and postconditions for graph passes is that of onnx/ir-py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import onnx

from onnx_shapprune.graph.interface import Interface
from onnx_shapprune.runtime.session import Device


@dataclass(frozen=True, slots=True)
class Work:
    """A working copy on its way through the passes.

    model: edited in place. shape: of a picture, in the model's layout. renamed: tensors of the file that have another
    name in the copy. stripped: operators taken off behind the logits, the last of the file first. rounding: the coarsest
    numbers in which the file itself computes, "float32", "float16" or "quantised". batch_free: whether several pictures
    may go in at once. step: scale and zero point of scores that the file gives in whole bytes. score: the tensor that was
    the logit of the one score of a file that has but one, "" before.
    """

    model: onnx.ModelProto
    interface: Interface
    shape: tuple[int, ...]
    device: Device
    renamed: Mapping[str, str] = field(default_factory=dict)
    stripped: tuple[str, ...] = ()
    rounding: str = "float32"
    batch_free: bool = False
    score: str = ""
    step: tuple[float, float] = (1.0, 0.0)

    @property
    def input(self) -> str:
        """Name of the graph input in the copy."""
        return self.renamed.get(self.interface.input, self.interface.input)


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds for a model or does not, in words and as a test."""

    words: str
    holds: Callable[[onnx.ModelProto], bool]


@dataclass(frozen=True, slots=True)
class Pass:
    """One step. What every pass keeps as well: the copy's scores. function: edits the copy and gives it back."""

    name: str
    function: Callable[[Work], Work]
    before: tuple[Condition, ...] = ()
    after: tuple[Condition, ...] = ()


def broken(conditions: tuple[Condition, ...], model: onnx.ModelProto) -> list[str]:
    """The words of the conditions that do not hold."""
    return [condition.words for condition in conditions if not condition.holds(model)]
