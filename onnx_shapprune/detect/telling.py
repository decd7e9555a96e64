"""What the scores of clean pictures become where tensors are told what is not theirs."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from onnx_shapprune.case.said import Said
from onnx_shapprune.case.subject import Floats, Subject
from onnx_shapprune.detect.thresholds import MAD_TO_SIGMA
from onnx_shapprune.graph.mask import held_still, switched
from onnx_shapprune.runtime.session import Session

CHOSEN = tuple(np.dtype(t) for t in (np.float32, np.float64, np.int32, np.int64, np.uint8, np.int8))  # by a Where


class Clean:
    """Clean pictures, what tensors are for each, and the scores of the classes that they can get.

    fed: pictures as inputs; said: of each what tensors are; classes: of the scores; ways: tensors that may be told others.
    """

    def __init__(
        self,
        subject: Subject,
        fed: Sequence[Floats],
        said: Sequence[Said],
        classes: Sequence[int],
        ways: Collection[str],
    ) -> None:
        self._said = said
        self._subject, self._fed, self._classes = subject, fed, list(classes)
        prepared = subject.prepared
        self._scores = np.concatenate([each[prepared.logits] for each in said])[:, self._classes]
        # The usual distance from the middle class: one class that is far away must not make every way look silent.
        usual = np.median(np.abs(self._scores - np.median(self._scores, axis=1, keepdims=True)), axis=1)
        self._spread = MAD_TO_SIGMA * float(np.median(usual))
        # Opening a session for each way would take longer than all that they are asked.
        infos = {n: prepared.infos[n] for n in ways if prepared.infos[n].dtype in CHOSEN}
        model, self._inputs = switched(prepared.model, infos)
        self._session = Session(model, subject.device, optimize=False)
        self._off = {switch: np.zeros((), np.bool_) for switch, _ in self._inputs.values()}
        self._off |= {
            self._inputs[name][1]: np.zeros((1,) * len(info.shape), info.dtype) for name, info in infos.items()
        }

    def moved(self, tensors: Sequence[str], told: Sequence[Said], limit: float) -> Iterator[bool]:
        """Of each picture, whether a score moves by more than a share of their spread where tensors are what is told."""
        prepared = self._subject.prepared
        session, usual, inputs = self._session, self._off, self._inputs
        if not inputs.keys() >= {*tensors}:
            model, inputs = prepared.model, {}
            for name in tensors:
                model, still = held_still(model, name, prepared.infos[name])
                inputs[name] = "", still
            session, usual = Session(model, self._subject.device, optimize=False), {}
        for x, values, want in zip(self._fed, told, self._scores, strict=True):
            feeds = usual | {inputs[t][1]: values[t] for t in tensors} | {prepared.input: x}
            feeds |= {inputs[t][0]: np.ones((), np.bool_) for t in tensors if inputs[t][0]}
            (got,) = session.run(feeds, [prepared.logits])
            yield bool(np.abs(got[0, self._classes] - want).max() > limit * self._spread)
