"""Search at a fixed success: as small a mask as still sends pictures where it should.

Neural Cleanse (Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P
2019): a free mask and a pattern under it, by its reference schedule: cost starts at 0, becomes 1e-3 after five good steps,
then doubles after five good and is divided by 2 ** 1.5 after five bad ones; Adam(0.1, betas 0.5 and 0.9) on tanh
parameters. The smallest mask that reached the success rate is kept; an arm that never reached it has no size at all, rather
than that of its first step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.adam import adam
from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.progress import Ticks
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Floats
from onnx_shapprune.invert.arms import Arms, pair, rate, scores_of, slopes
from onnx_shapprune.invert.trigger import Trigger

Reals = NDArray[np.float64]
BETAS = (0.5, 0.9)
UP, DOWN = 2.0, 2.0**1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeSettings:
    """steps: the most that are taken; step_size: Adam's; success: ASR that counts; patience: good or bad steps before the
    cost moves; early_stop: steps without a smaller mask, counted once the cost went both up and down; batch: pictures a
    step; first_cost: weight of the size after the first good steps. rivals, trial: after `trial` steps the search goes on
    with the `rivals` arms whose masks are smallest, as K-Arm gives up arms (Shen et al., ICML 2021); None: with all.
    """

    steps: int = 100
    step_size: float = 0.1
    success: float = 0.99
    patience: int = 5
    early_stop: int = 25
    batch: int = 9
    first_cost: float = 1e-3
    rivals: int | None = 3
    trial: int = 35


@dataclass(frozen=True, slots=True)
class FreeResult:
    """What the search for one arm ended with. success: whether it ever reached the ASR; asr: of the kept trigger."""

    trigger: Trigger
    asr: float
    success: bool
    steps: int


def search_free(
    shown: Shown,
    goals: Sequence[Goal],
    settings: FreeSettings,
    rng: np.random.Generator,
    *,
    start: Sequence[Trigger | None] | None = None,
    progress: Ticks | None = None,
) -> list[FreeResult]:
    """One search per entry of `goals` (a goal may stand there several times: restarts), all in lock-step.

    start: warm starts by arm, None for a random one.
    """
    n, shape = len(goals), shown.size
    values = [rng.uniform(-1, 1, (n, *shape[:2], 1)) - 1.0, rng.uniform(-1, 1, (n, *shape))]
    for i, trigger in enumerate(start or ()):
        if trigger is not None:
            values[0][i], values[1][i] = begin(trigger)
    mean, square = ([np.zeros_like(v) for v in values] for _ in range(2))
    cost = np.zeros(n)
    good, bad = np.zeros(n, int), np.zeros(n, int)
    went_up, went_down, stale = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, int)
    best_size, best_asr = np.full(n, np.inf), np.zeros(n)
    best = render(_squash(values[0]), _squash(values[1]), goals)
    live, taken = np.ones(n, bool), np.zeros(n, int)
    for step in range(1, settings.steps + 1):
        a = np.flatnonzero(live)
        mask, pattern = (_squash(v[a]) for v in values)
        arms, sizes = render(mask, pattern, [goals[i] for i in a.tolist()]), mask.sum((1, 2, 3))
        pairs = pair(shown, arms.goals, limit=settings.batch, rng=rng)
        logits, slope, under = slopes(shown, arms, pairs, w_ce=1.0, w_margin=0.0, below=True)
        scores = scores_of(logits, pairs)
        for k, grad in enumerate(back(mask, pattern, slope, under, cost[a])):
            grad = grad * 2 * (mask, pattern)[k] * (1 - (mask, pattern)[k])
            (mean[k][a], square[k][a]), direction = adam(grad, (mean[k][a], square[k][a]), step, BETAS)
            values[k][a] -= settings.step_size * direction
        ok = scores.asr >= settings.success
        smaller = ok & (sizes < best_size[a])
        improved = ok & (sizes < 0.99 * best_size[a])
        weaker = ~smaller & ~np.isfinite(best_size[a]) & (scores.asr >= best_asr[a])
        best_size[a[smaller]] = sizes[smaller]
        kept = smaller | weaker
        best_asr[a[kept]] = scores.asr[kept]
        best.masks[a[kept]], best.paints[a[kept]] = arms.masks[kept], arms.paints[kept]
        taken[a] = step
        stale[a] = np.where(improved | ~(went_up[a] & went_down[a]), 0, stale[a] + 1)
        good[a], bad[a] = np.where(ok, good[a] + 1, 0), np.where(ok, 0, bad[a] + 1)
        for i in a[good[a] >= settings.patience]:
            good[i] = 0
            went_up[i] |= cost[i] > 0
            cost[i] = settings.first_cost if cost[i] == 0 else cost[i] * UP
        for i in a[bad[a] >= settings.patience]:
            bad[i] = 0
            if cost[i] > 0:
                went_down[i] = True
                cost[i] /= DOWN
        live &= stale < settings.early_stop
        if step == settings.trial and settings.rivals is not None:
            live[np.argsort(best_size, kind="stable")[settings.rivals :]] = False
        if progress:
            progress(step if live.any() else settings.steps, settings.steps)
        if not live.any():
            break
    triggers = [Trigger(m, p, g, "patch") for m, p, g in zip(best.masks, best.paints, goals, strict=True)]
    final = rate(shown, triggers)
    return [
        FreeResult(t, float(final.asr[i]), bool(np.isfinite(best_size[i])), int(taken[i]))
        for i, t in enumerate(triggers)
    ]


def begin(trigger: Trigger) -> tuple[Reals, Reals]:
    """Parameters that are drawn as this trigger: of the mask [h, w, 1] and of the pattern [h, w, c]."""
    return _inverse(trigger.mask), _inverse(trigger.pattern / np.float32(255))


def render(mask: Reals, pattern: Reals, goals: Sequence[Goal]) -> Arms:
    """Arms with these masks and patterns, both in 0..1."""
    return Arms(mask.astype(np.float32), (255 * mask * pattern).astype(np.float32), goals)


def back(mask: Reals, pattern: Reals, slope: Floats, under: Floats, cost: Reals) -> tuple[Reals, Reals]:
    """Gradients in masks and patterns, from those in the triggered picture and times the picture below (`slopes`), and the
    cost [arms] of a pixel of the mask.
    """
    # Chain rule through x' = x + m (255 p - x).
    in_mask = (slope * 255 * pattern - under).sum(-1, keepdims=True) + cost[:, None, None, None]
    return in_mask, slope * (255 * mask)


def _squash(x: NDArray[np.floating]) -> Reals:
    return np.asarray((np.tanh(x) + 1) / 2, np.float64)


def _inverse(y: NDArray[np.floating]) -> Reals:
    return np.arctanh(np.clip(2 * np.asarray(y, np.float64) - 1, -0.99, 0.99))
