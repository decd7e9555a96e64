"""Neural Cleanse: a free mask and a pattern, as small as they get while they still send pictures to the target.

Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P 2019, with the
reference schedule: cost starts at 0, becomes 1e-3 after five good steps, then doubles after five good and is divided by
2 ** 1.5 after five bad ones; Adam(0.1, betas 0.5 and 0.9) on tanh parameters. The smallest mask that reached the success
rate is kept; an arm that never reached it has no norm at all, rather than the norm of its first step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.invert.arms import pair, score, scores_of, stamp
from onnx_shapprune.invert.subject import Labels, Pixels, Subject
from onnx_shapprune.invert.trigger import Trigger

Progress = Callable[[int, int], None]
BETAS = (0.5, 0.9)
UP, DOWN = 2.0, 2.0**1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSettings:
    """steps: at most so many; step_size: Adam's; success: ASR that counts; patience: good or bad steps before the cost
    moves; early_stop: steps without a smaller mask, counted once the cost went both up and down; batch: pictures a
    step; first_cost: weight of |mask|_1 after the first good steps.
    """

    steps: int = 120
    step_size: float = 0.1
    success: float = 0.99
    patience: int = 5
    early_stop: int = 25
    batch: int = 9
    first_cost: float = 1e-3


@dataclass(frozen=True, slots=True)
class PatchResult:
    """What the search for one arm ended with. success: whether the mask ever reached the ASR; asr: of the kept trigger."""

    trigger: Trigger
    asr: float
    success: bool
    steps: int


def search_patches(
    subject: Subject, pictures: Pixels, labels: Labels, targets: Sequence[int], settings: PatchSettings,
    rng: np.random.Generator, *, start: Sequence[Trigger | None] | None = None, progress: Progress | None = None,
) -> list[PatchResult]:  # fmt: skip
    """One search per entry of `targets` (a class may stand there several times: restarts), all in lock-step.

    pictures: float32 [n, h, w, c] in 0..255; labels: int64 [n]. start: warm starts by arm, None for a random one.
    """
    arms = np.asarray(targets, np.int64)
    n, shape = len(arms), pictures.shape[1:]
    m = rng.uniform(-1, 1, (n, *shape[:2], 1)) - 1.0
    p = rng.uniform(-1, 1, (n, *shape))
    for i, trigger in enumerate(start or ()):
        if trigger is not None:
            m[i], p[i] = _inverse(trigger.mask), _inverse(trigger.pattern / np.float32(255))
    mean, square = [np.zeros_like(m), np.zeros_like(p)], [np.zeros_like(m), np.zeros_like(p)]
    cost = np.zeros(n)
    good, bad = np.zeros(n, int), np.zeros(n, int)
    went_up, went_down, stale = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, int)
    best_norm, best_asr = np.full(n, np.inf), np.zeros(n)
    best_m, best_p = _squash(m).astype(np.float32), _squash(p).astype(np.float32)
    live, taken = np.ones(n, bool), np.zeros(n, int)
    for step in range(1, settings.steps + 1):
        a = np.flatnonzero(live)
        mask, pattern = _squash(m[a]).astype(np.float32), _squash(p[a]).astype(np.float32)
        pairs = pair(arms[a], labels, limit=settings.batch, rng=rng)
        logits, g = subject.gradient(
            stamp(pictures, mask, pattern * 255, pairs), arms[a][pairs.arm], w_ce=1.0, w_margin=0.0
        )
        scores = scores_of(logits, arms[a], pairs)
        # Chain rule through x' = x + m (255 p - x), then through both squashings.
        g_mask = pairs.mean((g * (255 * pattern[pairs.arm] - pictures[pairs.picture])).sum(-1, keepdims=True))
        g_mask += cost[a, None, None, None]
        g_pattern = pairs.mean(g) * (255 * mask)
        for k, (value, squashed, grad) in enumerate(((m, mask, g_mask), (p, pattern, g_pattern))):
            grad = grad * 2 * squashed * (1 - squashed)
            mean[k][a] = BETAS[0] * mean[k][a] + (1 - BETAS[0]) * grad
            square[k][a] = BETAS[1] * square[k][a] + (1 - BETAS[1]) * grad**2
            unbiased = np.sqrt(square[k][a] / (1 - BETAS[1] ** step)) + 1e-8
            value[a] -= settings.step_size * mean[k][a] / (1 - BETAS[0] ** step) / unbiased
        norms = mask.sum((1, 2, 3))
        ok = scores.asr >= settings.success
        smaller = ok & (norms < best_norm[a])
        improved = ok & (norms < 0.99 * best_norm[a])
        keep = a[smaller]
        best_norm[keep], best_asr[keep] = norms[smaller], scores.asr[smaller]
        best_m[keep], best_p[keep] = mask[smaller], pattern[smaller]
        weaker = ~np.isfinite(best_norm[a]) & (scores.asr >= best_asr[a])
        best_asr[a[weaker]] = scores.asr[weaker]
        best_m[a[weaker]], best_p[a[weaker]] = mask[weaker], pattern[weaker]
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
        if progress:
            progress(step if live.any() else settings.steps, settings.steps)
        if not live.any():
            break
    everything = pair(arms, labels, limit=None, rng=rng)
    final = score(subject, pictures, best_m, best_p * np.float32(255), arms, everything)
    return [
        PatchResult(
            Trigger(best_m[i], best_p[i] * 255, int(arms[i]), "patch"), float(final.asr[i]), bool(np.isfinite(best_norm[i])),
            int(taken[i]),
        )
        for i in range(n)
    ]  # fmt: skip


def _squash(x: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray((np.tanh(x) + 1) / 2, np.float64)


def _inverse(y: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.arctanh(np.clip(2 * np.asarray(y, np.float64) - 1, -0.99, 0.99))
