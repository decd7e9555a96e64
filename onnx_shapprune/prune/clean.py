"""What a repair is to keep, and what it costs of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Floats, Labels, Subject
from onnx_shapprune.game.value import distortion
from onnx_shapprune.pictures.augment import augmented
from onnx_shapprune.prune.thresholds import COST_VIEWS, LOSS_PER_DISTORTION, ODD, ONE_SIDED_95, TARGET_SHARE

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class CleanRows:
    """Views whose logits are to be kept. shown: in front of the unpruned model, so that costs add up over rounds; weights:
    float64 [n], of the views, which need not sum to 1.
    """

    shown: Shown
    weights: NDArray[np.float64]

    def cost(self, subject: Subject) -> float:
        """Accuracy, 0..1, that a repaired model is expected to lose on pictures that are not here."""
        logits = subject.logits(self.shown.pictures)
        return LOSS_PER_DISTORTION * distortion(logits, self.shown.logits, self.weights)


def clean_rows(shown: Shown, goals: Sequence[Goal], views: int, rng: np.random.Generator) -> CleanRows:
    """About `views` views of the clean pictures, at most four of each, with the unpruned model's logits.

    Pictures of a target class weigh TARGET_SHARE together: the channels of a backdoor also speak for the class itself.
    """
    pictures, labels = shown.pictures, shown.labels
    if len(pictures) > views:
        drawn = np.sort(rng.choice(len(pictures), views, replace=False))
        pictures, labels = pictures[drawn], labels[drawn]
    copies = min(3, views // len(pictures) - 1)
    truth = np.tile(labels, copies + 1)
    made = Shown.to(shown.subject, augmented(pictures, copies, rng), truth)
    return CleanRows(made, class_weights(truth, [t for g in goals for t in g.targets]) * evenness(made.logits))


def evenness(logits: Floats) -> NDArray[np.float64]:
    """What rows [n, classes] count for, float64 [n]: 1, and where the logits are over ODD times as large as of most so much
    less that the row counts as one of the usual size. What one picture wakes would else be all that is looked at.
    """
    sizes = logits.astype(np.float64).var(axis=1)
    usual = float(np.median(sizes))
    return (
        np.where(sizes > ODD**2 * usual, usual / np.maximum(sizes, 1e-300), 1.0) if usual > 0 else np.ones(len(sizes))
    )


def class_weights(labels: Labels, targets: Sequence[int]) -> NDArray[np.float64]:
    """Weights of rows, float64 [n], that sum to 1; the rows of the target classes to TARGET_SHARE, if it is less, more."""
    mine = np.isin(labels, targets)
    uniform = np.full(len(labels), 1 / len(labels))
    if not mine.any() or mine.mean() >= TARGET_SHARE:
        return uniform
    return np.asarray(np.where(mine, TARGET_SHARE / mine.sum(), (1 - TARGET_SHARE) / (~mine).sum()))


def cost_views(shown: Shown, rng: np.random.Generator) -> Shown:
    """COST_VIEWS views of the pictures or less, at most sixteen of each and at least two, the pictures in turn."""
    copies = min(15, max(1, COST_VIEWS // len(shown) - 1))
    return Shown.to(shown.subject, augmented(shown.pictures, copies, rng), np.tile(shown.labels, copies + 1))


def clean_cost(before: Bools, after: Bools, pictures: int) -> tuple[float, float]:
    """Clean accuracy lost, in 0..1, and a one-sided 95 % lower bound of it.

    before, after: right answers on views of `pictures` pictures, bool [views * pictures], the pictures in turn. Views of
    one picture are no independent sample, so the bound comes from the spread of the losses between pictures. An exact
    bound for the pictures as they were given (two lost of ten are too many) was tried and made repairs worse: on the
    sample it swaps four units that cost 1.1 points on 1,000 other pictures for eight that cost 2.5 and keep all ten.
    """
    # Answers that become right are no refund: on ten pictures they are chance, and would hide what unseen ones lose.
    lost = (before & ~after).astype(float).reshape(-1, pictures).mean(axis=0)
    error = float(lost.std(ddof=1) / np.sqrt(pictures)) if pictures > 1 else 0.0
    return float(lost.mean()), float(lost.mean()) - ONE_SIDED_95 * error
