"""Pictures where none are given: drawn out of the model itself, one for each of some classes.

Model inversion after Mahendran and Vedaldi (CVPR 2015) and DeepInversion (Yin et al., CVPR 2020), without the latter's term
of BatchNorm statistics, which most exported files no longer hold: the class's logit margin is raised as far as a usual
picture would have it and no further, so that a picture is not itself a trigger; neighbouring pixels are kept alike, and the
picture is shifted by a few pixels in every step, so that what matters does not hang on single pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from onnx_shapprune.case.adam import Moments, adam
from onnx_shapprune.case.subject import Labels, Pixels, Subject, margins

BETAS = (0.9, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisSettings:
    """steps: at most; step_size: of Adam, in bytes; spread: standard deviation of the smooth noise at the start, in bytes;
    blur: of that noise as a share of the shorter side; smoothness: weight of the squared differences of neighbouring pixels
    against the margin; cap: margin that is enough, in units of the usual spread of the logits; jitter: pixels.
    """

    steps: int = 60
    step_size: float = 8.0
    spread: float = 50.0
    blur: float = 0.06
    smoothness: float = 0.3
    cap: float = 2.0
    jitter: int = 2


def synthesise(
    subject: Subject,
    size: tuple[int, int, int],
    classes: Sequence[int],
    settings: SynthesisSettings,
    rng: np.random.Generator,
) -> tuple[Pixels, Labels]:
    """One picture float32 [n, h, w, c] in 0..255 per class of `classes`, and the classes, of those that were reached.

    size: (h, w, c). A class that the model never answers with in the steps allowed has no picture.
    """
    height, width, _ = size
    targets = np.asarray(classes, np.int64)
    sigma = settings.blur * min(height, width)
    noise = gaussian_filter(rng.normal(size=(len(targets), *size)), (0, sigma, sigma, 0), mode="reflect")
    noise *= settings.spread / noise.std(axis=(1, 2, 3), keepdims=True)
    pictures = np.clip(rng.uniform(80, 176, (len(targets), 1, 1, size[2])) + noise, 0, 255).astype(np.float32)
    # The logits' own spread says how far apart classes are on this model.
    spread = float(np.median(np.std(subject.logits(pictures), axis=1)))
    cap = settings.cap * max(spread, 1e-3)
    moments: Moments = (np.zeros_like(pictures), np.zeros_like(pictures))
    for step in range(1, settings.steps + 1):
        shift = rng.integers(-settings.jitter, settings.jitter + 1, 2)
        shown = np.roll(pictures, shift, (1, 2))
        _, gradient = subject.gradient(shown, targets, w_margin=1.0, cap=cap)
        gradient = np.roll(gradient, -shift, (1, 2))
        scale = np.abs(gradient).mean(axis=(1, 2, 3), keepdims=True)
        rough = _roughness(pictures)
        # Both pulls in one scale; once the margin is reached only smoothing is left.
        rough *= settings.smoothness / np.maximum(np.abs(rough).mean(axis=(1, 2, 3), keepdims=True), 1e-9)
        gradient = np.where(scale > 0, gradient / np.maximum(scale, 1e-30), 0) + rough
        moments, direction = adam(gradient, moments, step, BETAS)
        stride = settings.step_size * (1 - 0.9 * step / settings.steps)
        pictures = np.clip(pictures - stride * direction, 0, 255).astype(np.float32)
    reached = margins(subject.logits(pictures), targets) > 0
    return pictures[reached], targets[reached]


def _roughness(pictures: Pixels) -> NDArray[np.float32]:
    """Gradient of half the sum of squared differences between neighbouring pixels."""
    rough = np.zeros_like(pictures)
    for axis in (1, 2):
        steps = np.diff(pictures, axis=axis)
        ends = [slice(None)] * 4
        ends[axis] = slice(1, None)
        rough[tuple(ends)] += steps
        ends[axis] = slice(None, -1)
        rough[tuple(ends)] -= steps
    return rough
