"""Which preparation of the pictures a model was made for: the usual ones are tried, each on the same pictures.

With labels by how many get theirs. Without, by how a model behaves that knows what it sees: surer of pictures than of their
shuffled pixels, and of one mind when a picture is moved by a pixel or lit otherwise. The second way only guesses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betaincinv, log_softmax

from onnx_shapprune.case.subject import Labels, Pixels, Subject
from onnx_shapprune.detect.thresholds import CHANCE, CONFIDENCE, WORKING
from onnx_shapprune.pictures.spread import spread_over
from onnx_shapprune.pictures.usual import Setting, nearly_the_same

Scores = NDArray[np.float64]
LABELLED = 256  # pictures that are enough to tell settings apart
UNLABELLED = 24
LIT = (0.9, 1.1)


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """One setting on n pictures. right: which get their label, bool [n], None without labels; likelihood: mean log
    probability of the labels, which ranks settings with as many right answers. Without labels, each float64 [n]: confidence
    0..1 on the pictures and on their shuffled pixels, and the share of small changes that keep the answer, corrected for
    chance (Cohen's kappa, 1960): 1 at most, 0 for what answers with the same shares would give. failed: the model answers
    NaN or infinity.
    """

    setting: Setting
    right: NDArray[np.bool_] | None = None
    likelihood: float = -np.inf
    confidence: Scores | None = None
    on_noise: Scores | None = None
    agreement: Scores | None = None
    failed: bool = False

    @property
    def points(self) -> Scores:
        """What a picture speaks for the setting, float64 [n]: settings are compared picture by picture."""
        if self.right is not None:
            return self.right.astype(np.float64)
        assert self.confidence is not None
        assert self.on_noise is not None
        assert self.agreement is not None
        return self.confidence - self.on_noise + self.agreement


@dataclass(frozen=True, slots=True)
class Fit:
    """Settings that were tried, the best first. fits: whether the first one does, None without labels; alike: others that
    these pictures do not tell from it.
    """

    tried: tuple[Attempt, ...]
    fits: bool | None
    alike: tuple[Attempt, ...]


def attempts(
    subject: Subject, settings: Sequence[Setting], pictures: Pixels, labels: Labels | None
) -> tuple[Attempt, ...]:
    """Try settings on pictures float32 [n, h, w, c] in 0..255 with labels int64 [n], or None for none; on `LABELLED` or
    `UNLABELLED` of them at most, evenly spread.
    """
    most = UNLABELLED if labels is None else LABELLED
    rows = spread_over(len(pictures), most)
    shown = pictures[rows]
    if labels is not None:
        return tuple(_labelled(subject, s, shown, labels[rows]) for s in settings)
    views = tuple(_views(shown))
    return tuple(_unlabelled(subject, s, shown, views) for s in settings)


def ranked(tried: Sequence[Attempt], classes: int) -> Fit:
    """Order attempts on the same pictures, at least one, and say whether the best fits and which fit alike."""
    ordered = sorted(tried, key=lambda t: _place(t, tried))
    best, own = ordered[0], ordered[0].setting.preprocessing
    others = [t for t in ordered[1:] if not t.failed and not nearly_the_same(own, t.setting.preprocessing)]
    alike = tuple(t for t in others if not beats(best, t))
    if best.right is None:
        return Fit(tuple(ordered), None, alike)
    right, total = int(best.right.sum()), len(best.right)
    fits = right / total >= WORKING and bounds(right, total)[0] > 1 / classes
    return Fit(tuple(ordered), fits, alike if fits else ())


def _place(attempt: Attempt, tried: Sequence[Attempt]) -> tuple[bool, float, float]:
    """What attempts are sorted by. Between settings that no picture tells apart the usual one, which stands first, leads."""
    own = attempt.setting.preprocessing
    near = [t for t in tried if t is attempt or nearly_the_same(own, t.setting.preprocessing)]
    points = [float(t.points.mean()) for t in near if t is attempt or t.right is None]
    return attempt.failed, -max(points), -max(t.likelihood for t in near)


def beats(better: Attempt, other: Attempt) -> bool:
    """Whether a setting is clearly better on the same pictures: by an exact sign test of those on which the two differ
    (McNemar 1947, one-sided at 5 %), or by bounds of the two accuracies that do not meet.
    """
    wins, losses = int((better.points > other.points).sum()), int((better.points < other.points).sum())
    if wins > losses and float(bdtrc(wins - 1, wins + losses, 0.5)) <= CHANCE:
        return True
    if better.right is None or other.right is None:
        return False
    total = len(better.right)
    return bounds(int(better.right.sum()), total)[0] > bounds(int(other.right.sum()), total)[1]


def bounds(right: int, total: int) -> tuple[float, float]:
    """Lower and upper one-sided bound of a share, 0..1, each with the confidence of `CONFIDENCE` (Clopper, Pearson 1934)."""
    lower = 0.0 if right == 0 else float(betaincinv(right, total - right + 1, 1 - CONFIDENCE))
    upper = 1.0 if right == total else float(betaincinv(right + 1, total - right, CONFIDENCE))
    return lower, upper


def _labelled(subject: Subject, setting: Setting, pictures: Pixels, labels: Labels) -> Attempt:
    logits = subject.fed(setting.preprocessing).logits(pictures)
    if not np.isfinite(logits).all():
        return Attempt(setting, right=np.zeros(len(pictures), np.bool_), failed=True)
    likelihood = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels].mean()
    return Attempt(setting, right=logits.argmax(1) == labels, likelihood=float(likelihood))


def _unlabelled(subject: Subject, setting: Setting, pictures: Pixels, views: Sequence[Pixels]) -> Attempt:
    """views: first the shuffled pictures, then the slightly changed ones."""
    fed = subject.fed(setting.preprocessing)
    clean, noise, *changed = (fed.logits(p) for p in (pictures, *views))
    if not all(np.isfinite(z).all() for z in (clean, noise, *changed)):
        nothing = np.zeros(len(pictures))
        return Attempt(setting, confidence=nothing, on_noise=nothing, agreement=nothing, failed=True)
    confidence, on_noise = (np.exp(log_softmax(z.astype(np.float64), axis=1).max(axis=1)) for z in (clean, noise))
    kept = np.mean([z.argmax(1) == clean.argmax(1) for z in changed], axis=0)
    shares = np.bincount(clean.argmax(1)) / len(clean)
    by_chance = float((shares**2).sum())  # a model that answers one class only is steady whatever it is fed
    agreement = (kept - by_chance) / (1 - by_chance) if by_chance < 1 else np.zeros(len(clean))
    return Attempt(setting, confidence=confidence, on_noise=on_noise, agreement=agreement)


def _views(pictures: Pixels) -> Iterator[Pixels]:
    rng = np.random.default_rng(0)
    n, height, width, channels = pictures.shape
    order = rng.permuted(np.tile(np.arange(height * width), (n, 1)), axis=1)
    yield np.take_along_axis(pictures.reshape(n, -1, channels), order[..., None], axis=1).reshape(pictures.shape)
    for axis, step in ((1, 1), (2, -1)):
        yield np.roll(pictures, step, axis=axis)
    for light in LIT:
        yield np.clip(pictures * np.float32(light), 0, 255)
