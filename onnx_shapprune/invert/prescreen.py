"""Which of many classes are worth a full search, after K-Arm's prescreening (Shen et al., ICML 2021).

Where a network is small, all classes are searched with one coarse family (`coarse_margins`): nothing cheaper finds the
target among a thousand for sure. A class costs as much as any other, so that this grows with their number and with the
network; beyond that, forward passes over random patches (`lifts`) choose first. A planted target is easy to move towards
even by accident: of many random patches, the one that lifts its logit most lifts it by more than any patch lifts other
logits. One forward pass says so about all classes at once, and misses what no accident reaches.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import all_to_one
from onnx_shapprune.case.progress import Ticks
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Pixels, Subject
from onnx_shapprune.invert.families import compact
from onnx_shapprune.invert.scan import ScanSettings, best_of, scan
from onnx_shapprune.pictures.spread import spread_over

# Edge of the coarse patch as a share of the shorter side, its places per axis, and its rounds.
COARSE_SIDE, COARSE_GRID = 0.25, 3
TOGETHER = 24  # classes that are searched in one batch, which bounds the memory
COARSE = ScanSettings(rounds=((4, 2, 0), (6, 4, 0)), leaders=TOGETHER)  # every class keeps its best place
COARSE_WORK = (
    50  # pictures that a class costs both ways, about: nine places, four steps on two of them, and two evaluations
)


def coarse_margins(
    shown: Shown, classes: Sequence[int], rng: np.random.Generator, *, progress: Ticks | None = None
) -> NDArray[np.float64]:
    """The mean margin that a patch of a quarter of the side reaches for each class after few steps: float64 [classes]."""
    height, width, _ = shown.size
    family = compact(height, width, max(3, round(COARSE_SIDE * min(height, width))), COARSE_GRID)
    margins = []
    for start in range(0, len(classes), TOGETHER):
        goals = all_to_one(classes[start : start + TOGETHER])
        found = scan(shown, goals, family, COARSE, rng)
        margins += [best_of(found, g).margin for g in goals]
        if progress:
            progress(len(margins), len(classes))
    return np.array(margins)


def lifts(
    subject: Subject, pictures: Pixels, rng: np.random.Generator, *, patches: int = 400, most: int = 24
) -> NDArray[np.float64]:
    """Per class, the largest mean rise of its logit over `patches` random patches, beyond what the patch does to the median
    class: float64 [classes]. Patches are squares of 12 to 40 % of the shorter side, of one random colour of the cube's
    corners or of noise; pictures: `most` of them, evenly chosen, see each patch.
    """
    shown = pictures[spread_over(len(pictures), most)]
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
