"""The core of a patch: the smaller square inside of it that does most of its work.

What is planted is mostly smaller than the patch that finds it, and a part of that patch, learnt on, does as well. What
moves pictures by nature needs the whole of it: of a patch towards a clean network's weakest class a third does little.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnx_shapprune.case.shown import Shown
from onnx_shapprune.invert.arms import Arms, rate
from onnx_shapprune.invert.families import replaced
from onnx_shapprune.invert.scan import Climb, Found, ascend
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.spread import spread_over

CORE = "core"  # as in records
# Edge of the core in fifths of the patch's; pictures that its places are tried on; its ascent. 2026-11-27, chosen.
FIFTHS, TRIED_ON, CLIMB = 3, 4, Climb(steps=8, batch=5)


def cores(shown: Shown, patches: Sequence[Found]) -> list[Found]:
    """The core of each square patch, learnt on where that helps; margins and ASR on all pictures."""
    few = shown.part(spread_over(len(shown), TRIED_ON))
    starts = []
    for found in patches:
        parts = list(_parts(found.trigger))
        starts.append(parts[int(rate(few, parts).margin.argmax())])
    masks, paints = np.stack([t.mask for t in starts]), np.stack([t.paint for t in starts])
    rng = np.random.default_rng(0)  # its own: searches that follow draw what they drew without it
    learnt, _ = ascend(shown, Arms(masks, paints, [t.goal for t in starts]), replaced, CLIMB, rng)
    better = [t.relearnt(p) for t, p in zip(starts, learnt, strict=True)]
    return [
        max(pair, key=lambda f: f.margin) for pair in zip(_rated(shown, starts), _rated(shown, better), strict=True)
    ]


def _rated(shown: Shown, triggers: Sequence[Trigger]) -> list[Found]:
    scores = rate(shown, triggers)
    return [Found.of(t, scores, i) for i, t in enumerate(triggers)]


def _parts(patch: Trigger) -> Iterator[Trigger]:
    """Squares inside of a square patch: at its corners, the middles of its sides, and its own."""
    rows, columns = (np.flatnonzero(patch.mask[..., 0].any(axis)) for axis in (1, 0))
    side = -(-FIFTHS * len(rows) // 5)
    spare = len(rows) - side
    for down in sorted({0, spare // 2, spare}):
        for right in sorted({0, spare // 2, spare}):
            mask = np.zeros_like(patch.mask)
            mask[rows[0] + down : rows[0] + down + side, columns[0] + right : columns[0] + right + side] = 1
            yield replace(patch, mask=mask, paint=patch.paint * mask)
