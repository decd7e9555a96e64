"""Pictures that climb along the slopes of a tensor inside of a network."""

from collections.abc import Sequence

import numpy as np

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.engine import gradients
from onnx_shapprune.case.subject import Floats, Pixels, Subject
from onnx_shapprune.graph.provenance.gates import straightened
from onnx_shapprune.pictures.preprocess import pull_back, to_input
from onnx_shapprune.runtime.session import Session

SEED = "climbing::seed"


class Slope:
    """How values of a tensor change with the picture, in a copy of the network."""

    def __init__(self, subject: Subject, tensor: str, gate: Sequence[str] = (), *, at_best: bool = False) -> None:
        """Flat parts are straight: those of a `gate` before the tensor altogether, as in `straightened`, and of Relus."""
        info = subject.prepared.infos[tensor]
        b = Builder(straightened(subject.prepared.model, gate, at_best=at_best), subject.prepared.infos)
        del b.graph.output[:]
        seed = b.input(SEED, info.dtype, [f"seed_{k}" for k in range(len(info.shape))])
        self._slope = gradients(b, tensor, [subject.prepared.input], seed=seed)[subject.prepared.input]
        b.output(self._slope, b.shape(subject.prepared.input))
        self._session, self._subject, self._dtype = Session(b.model(), subject.device), subject, info.dtype

    def step(self, pictures: Pixels, wanted: Floats, stride: float) -> Pixels:
        """Pictures float32 [n, h, w, c] in 0..255, each pixel moved by `stride` bytes so that the tensor goes where it is
        wanted, [n, ...].
        """
        subject = self._subject
        feeds = {
            subject.prepared.input: to_input(pictures, subject.preprocessing),
            SEED: wanted.astype(self._dtype),
        }
        height, width, channels = pictures.shape[1:]
        slope = self._session.run(feeds, [self._slope])[0]
        along = pull_back(slope, subject.preprocessing, picture_shape=(height, width, channels))
        moved: Pixels = np.clip(pictures + np.float32(stride) * np.sign(along), 0, 255).astype(np.float32)
        return moved
