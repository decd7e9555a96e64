"""Search at a fixed success: as small a trigger as still sends pictures where it should.

Two forms. "patch" is Neural Cleanse (Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
Networks", IEEE S&P 2019): a free mask and a pattern under it. "pixel" is PixelBackdoor (Tao et al., CVPR 2022): what is
added to each pixel and what is taken away, for triggers that cover nothing. Both follow Neural Cleanse's reference
schedule: cost starts at 0, becomes 1e-3 after five good steps, then doubles after five good and is divided by 2 ** 1.5
after five bad ones; Adam(0.1, betas 0.5 and 0.9) on tanh parameters. The smallest trigger that reached the success rate is
kept; an arm that never reached it has no size at all, rather than that of its first step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.adam import adam
from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.subject import Labels, Pixels, Subject
from onnx_shapprune.invert.arms import pair, rate, scores_of, slopes
from onnx_shapprune.invert.trigger import Trigger

Progress = Callable[[int, int], None]
Reals = NDArray[np.float64]
BETAS = (0.5, 0.9)
UP, DOWN = 2.0, 2.0**1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeSettings:
    """steps: at most so many; step_size: Adam's; success: ASR that counts; patience: good or bad steps before the cost
    moves; early_stop: steps without a smaller trigger, counted once the cost went both up and down; batch: pictures a
    step; first_cost: weight of the size after the first good steps. rivals, trial: after `trial` steps only the arms with
    the so many smallest triggers go on, as K-Arm gives up arms (Shen et al., ICML 2021); None: all do.
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


@dataclass(frozen=True, slots=True)
class Form:
    """How two arrays of parameters make a trigger. begin: of a trigger; render: to masks, paints and sizes; back: from the
    gradients in the triggered picture and times the picture below (`slopes`), and the cost per unit of size, to the
    gradients in the squashed parameters.
    """

    family: str
    begin: Callable[[Trigger], tuple[Reals, Reals]]
    render: Callable[[Reals, Reals], tuple[Pixels, Pixels, Reals]]
    back: Callable[[Reals, Reals, Reals, Reals, Reals], tuple[Reals, Reals]]
    first_is_mask: bool


def _render_patch(mask: Reals, pattern: Reals) -> tuple[Pixels, Pixels, Reals]:
    return mask.astype(np.float32), (255 * mask * pattern).astype(np.float32), mask.sum((1, 2, 3))


def _back_patch(mask: Reals, pattern: Reals, slope: Reals, under: Reals, cost: Reals) -> tuple[Reals, Reals]:
    # Chain rule through x' = x + m (255 p - x).
    in_mask = (slope * 255 * pattern - under).sum(-1, keepdims=True) + cost[:, None, None, None]
    return in_mask, slope * (255 * mask)


def _render_pixel(plus: Reals, minus: Reals) -> tuple[Pixels, Pixels, Reals]:
    paint = 255 * (plus - minus)
    return (
        np.zeros((*paint.shape[:3], 1), np.float32),
        paint.astype(np.float32),
        np.abs(paint).max(-1).sum((1, 2)) / 255,
    )


def _back_pixel(plus: Reals, minus: Reals, slope: Reals, under: Reals, cost: Reals) -> tuple[Reals, Reals]:
    # The size of a pixel is its largest change, upwards and downwards apart, so that neither hides the other.
    pushed = [cost[:, None, None, None] * (v == v.max(-1, keepdims=True)) for v in (plus, minus)]
    return 255 * slope + pushed[0], -255 * slope + pushed[1]


PATCH = Form(
    "patch", lambda t: (_inverse(t.mask), _inverse(t.pattern / np.float32(255))), _render_patch, _back_patch, True
)
PIXEL = Form(
    "pixel",
    lambda t: (_inverse(t.paint.clip(0) / np.float32(255)), _inverse(-t.paint.clip(None, 0) / np.float32(255))),
    _render_pixel,
    _back_pixel,
    False,
)


def search_free(
    subject: Subject,
    pictures: Pixels,
    labels: Labels,
    goals: Sequence[Goal],
    settings: FreeSettings,
    rng: np.random.Generator,
    *,
    form: Form = PATCH,
    start: Sequence[Trigger | None] | None = None,
    progress: Progress | None = None,
) -> list[FreeResult]:
    """One search per entry of `goals` (a goal may stand there several times: restarts), all in lock-step.

    pictures: float32 [n, h, w, c] in 0..255; labels: int64 [n]. start: warm starts by arm, None for a random one.
    """
    n, shape = len(goals), pictures.shape[1:]
    values = [
        rng.uniform(-1, 1, (n, *shape[:2], 1 if form.first_is_mask else shape[2])) - 1.0,
        rng.uniform(-1, 1, (n, *shape)) - (0.0 if form.first_is_mask else 1.0),
    ]
    for i, trigger in enumerate(start or ()):
        if trigger is not None:
            values[0][i], values[1][i] = form.begin(trigger)
    mean, square = ([np.zeros_like(v) for v in values] for _ in range(2))
    cost = np.zeros(n)
    good, bad = np.zeros(n, int), np.zeros(n, int)
    went_up, went_down, stale = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, int)
    best_size, best_asr = np.full(n, np.inf), np.zeros(n)
    best_mask, best_paint, _ = form.render(_squash(values[0]), _squash(values[1]))
    live, taken = np.ones(n, bool), np.zeros(n, int)
    for step in range(1, settings.steps + 1):
        a = np.flatnonzero(live)
        squashed = [_squash(v[a]) for v in values]
        masks, paints, sizes = form.render(squashed[0], squashed[1])
        pairs = pair([goals[i] for i in a.tolist()], labels, limit=settings.batch, rng=rng)
        logits, slope, under = slopes(subject, pictures, masks, paints, pairs, w_ce=1.0, w_margin=0.0, below=True)
        scores = scores_of(logits, pairs)
        for k, grad in enumerate(form.back(squashed[0], squashed[1], slope, under, cost[a])):
            grad = grad * 2 * squashed[k] * (1 - squashed[k])
            (mean[k][a], square[k][a]), direction = adam(grad, (mean[k][a], square[k][a]), step, BETAS)
            values[k][a] -= settings.step_size * direction
        ok = scores.asr >= settings.success
        smaller = ok & (sizes < best_size[a])
        improved = ok & (sizes < 0.99 * best_size[a])
        weaker = ~smaller & ~np.isfinite(best_size[a]) & (scores.asr >= best_asr[a])
        best_size[a[smaller]] = sizes[smaller]
        kept = smaller | weaker
        best_asr[a[kept]] = scores.asr[kept]
        best_mask[a[kept]], best_paint[a[kept]] = masks[kept], paints[kept]
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
    triggers = [Trigger(best_mask[i], best_paint[i], goals[i], form.family) for i in range(n)]
    final = rate(subject, pictures, labels, triggers)
    return [
        FreeResult(t, float(final.asr[i]), bool(np.isfinite(best_size[i])), int(taken[i]))
        for i, t in enumerate(triggers)
    ]


def _squash(x: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray((np.tanh(x) + 1) / 2, np.float64)


def _inverse(y: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.arctanh(np.clip(2 * np.asarray(y, np.float64) - 1, -0.99, 0.99))
