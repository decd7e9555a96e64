"""What tensors inside a network are for pictures."""

from collections.abc import Sequence

from onnx_shapprune.case.subject import Floats, Subject
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Session

Said = dict[str, Floats]  # tensor -> what it is for a picture


def read(subject: Subject, names: list[str], fed: Sequence[Floats]) -> list[Said]:
    """What tensors are for each picture, and the picture itself. fed: pictures as inputs."""
    source = subject.prepared.input
    made = [name for name in names if name != source]
    reading = Session(expose(subject.prepared.model, made), subject.device, optimize=False) if made and fed else None
    return [
        ({} if reading is None else dict(zip(made, reading.run({source: x}, made), strict=True))) | {source: x}
        for x in fed
    ]
