"""The proof that a baked file does what the plan says."""

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_shapprune.case.subject import Floats, Pixels, Subject
from onnx_shapprune.errors import VerifyError
from onnx_shapprune.game.replay import Player, Replay
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.prune.thresholds import TOLERANCE


def masked_logits(
    subject: Subject, layers: Sequence[Layer], off: Mapping[str, Sequence[int]], pictures: Pixels
) -> Floats:
    """Logits [n, classes] of the model with the units `off` (layer name -> channels) masked, not baked."""
    players = [Player(i, c) for i, layer in enumerate(layers) for c in off.get(layer.name, ())]
    subject.work.coalitions += 1
    replay = Replay(subject.prepared, layers, players, to_input(pictures, subject.preprocessing), subject.device)
    return np.asarray(replay(np.zeros((1, len(players)), bool))[0])


def prove_baked(masked: Floats, baked: Floats) -> float:
    """Largest logit difference between the masked run and the baked file's, relative to max(1, max|logit|).

    Raises VerifyError above TOLERANCE: then the file does not do what the plan says.
    """
    difference = float(np.abs(masked - baked).max() / max(1.0, float(np.abs(masked).max())))
    if not difference <= TOLERANCE:
        raise VerifyError(f"the baked file differs from the masked run by {difference:.2g}: nothing was written")
    return difference
