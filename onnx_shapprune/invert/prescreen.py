"""Which of many classes are worth a search: forward passes only, after K-Arm's prescreening (Shen et al., ICML 2021).

A planted target is easy to move towards even by accident: of many random patches, the one that lifts its logit most lifts
it by more than any patch lifts other logits. One forward pass says so about all classes at once.
"""

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.subject import Pixels, Subject


def lifts(
    subject: Subject, pictures: Pixels, rng: np.random.Generator, *, patches: int = 400, most: int = 24
) -> NDArray[np.float64]:
    """Per class, the largest mean rise of its logit over `patches` random patches, beyond what the patch does to the median
    class: float64 [classes]. Patches are squares of 12 to 40 % of the shorter side, of one random colour of the cube's
    corners or of noise; pictures: `most` of them, evenly chosen, see each patch.
    """
    shown = pictures[np.unique(np.linspace(0, len(pictures) - 1, most).round().astype(int))]
    height, width, channels = shown.shape[1:]
    before = subject.logits(shown)
    best = np.full(subject.classes, -np.inf)
    for number in range(patches):
        side = max(2, round(float(rng.uniform(0.12, 0.4)) * min(height, width)))
        top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        noise = np.clip(rng.normal(128, 80, (side, side, channels)), 0, 255)
        patch = rng.choice([0.0, 255.0], channels) if number % 2 else noise
        stamped = shown.copy()
        stamped[:, top : top + side, left : left + side] = patch
        rise = (subject.logits(stamped) - before).mean(axis=0, dtype=np.float64)
        best = np.maximum(best, rise - np.median(rise))
    return best
