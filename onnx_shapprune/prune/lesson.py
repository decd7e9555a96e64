"""What a realignment learns from: views of the given pictures, some with triggers on, and what it costs on others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_shapprune.case.goal import UNMOVED
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Labels, Pixels, Subject
from onnx_shapprune.game.value import distortion
from onnx_shapprune.graph.linear import Linear
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.augment import augmented, pasted, posed
from onnx_shapprune.prune.realign import Fit, Realigned, Views, realign
from onnx_shapprune.prune.thresholds import (
    FIT_VIEWS,
    FOLDS,
    LOST_BY_MOVING,
    LOST_UNSEEN,
    MOST_UNLABELLED,
    MOST_VIEWS,
    PRIOR_LOST,
    PUT_ON,
    VIEWS_OF_TRIGGER,
)

NOBODY: Labels = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Unseen:
    """What is expected of a fit on pictures that it did not learn from. lost: clean accuracy, 0..1; asr: share of the
    pictures, 0..1, that triggers of maps still move there; 0 where none was put on.
    """

    lost: float
    asr: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What is taught. shown: pictures, in front of the original model; pruned: the model that learns, the original or a copy
    with units off; linears: its layers that are realigned; triggers: that it learns to overlook; rich: with more kinds of
    clean views, for what is to be deployed; more: clean pictures whose labels nobody knows, float32 [n, h, w, c].
    """

    shown: Shown
    pruned: Subject
    linears: Sequence[Linear]
    triggers: Sequence[Trigger]
    rich: bool = True
    more: Pixels | None = None

    def fitted(self, fit: Fit, rng: np.random.Generator) -> Realigned:
        """A fit on all pictures."""
        return self._on(self.shown, self.triggers, fit, rng)

    def learnt(self, made: Realigned) -> Subject:
        """The model after a fit, as its working copy."""
        like = self.pruned
        return Subject(made.prepared, like.preprocessing, like.device, like.work)

    def unseen(self, fit: Fit, bearable: float = math.inf) -> Unseen:
        """What a fit does on pictures that it never saw, from folds over the pictures: views of one picture are no test of a
        fit to its other views. Pictures of the targets are in every fit. Of a map each class is a target, and nothing goes
        to one that a fold leaves out. Of what is to be deployed, how far the logits of such pictures move counts as lost as
        well (ten of them seldom lose an answer), and triggers of maps are put on them: a map has a target for each class,
        and a fit learns each of them from one picture.

        bearable: what may be lost. Folds only add to it, so the rest are left out once more is.
        """
        shown = self.shown
        kept = np.isin(shown.labels, [t for trigger in self.triggers for t in trigger.goal.targets])
        others = np.random.default_rng(0).permutation(np.flatnonzero(~kept if not kept.all() else kept))
        lost = moved = led = 0.0
        most = max(1, len(others))

        def expected() -> float:
            return max(LOST_UNSEEN * (lost + PRIOR_LOST) / (len(others) + 1), LOST_BY_MOVING * moved / most)

        for fold in (others[i::FOLDS] for i in range(min(FOLDS, len(others)))):
            rest = shown.part(np.setdiff1d(np.arange(len(shown)), fold))
            missing = np.setdiff1d(shown.labels[fold], rest.labels)
            taught = [t for t in self.triggers if len(_moved(rest, t, missing))]
            if not taught:
                continue
            rng = np.random.default_rng(0)
            subject = self.learnt(self._on(rest, taught, fit, rng, missing))
            left_out = shown.part(fold)
            pictures, labels = augmented(left_out.pictures, FIT_VIEWS, rng), np.tile(left_out.labels, FIT_VIEWS + 1)
            views = Shown.to(shown.subject, pictures, labels)
            after = views.on(subject)
            lost += float((views.right & ~after.right).mean()) * len(fold)
            if self.rich:
                moved += distortion(after.logits, views.logits, np.full(len(labels), 1 / len(labels))) * len(fold)
                if maps := [t for t in taught if t.goal.kind == "all-to-all"]:
                    led += float(rate(after, maps[:PUT_ON]).asr.mean()) * len(fold)
            if expected() > bearable:
                break
        return Unseen(expected(), led / most)

    def _on(
        self, shown: Shown, triggers: Sequence[Trigger], fit: Fit, rng: np.random.Generator, missing: Labels = NOBODY
    ) -> Realigned:
        views = views_of(shown, triggers, rng, rich=self.rich, missing=missing)
        if self.more is not None and len(self.more):
            drawn = self.more[np.sort(rng.choice(len(self.more), min(len(self.more), MOST_UNLABELLED), replace=False))]
            views = replace(views, clean=np.concatenate([views.clean, drawn]))
        return realign(self.shown.subject, self.pruned, self.linears, views, fit, rng)


def _moved(shown: Shown, trigger: Trigger, missing: Labels) -> Labels:
    """Which pictures a trigger is to move, to a class that is not `missing`."""
    to = shown.moved(trigger.goal)
    return np.flatnonzero((to != UNMOVED) & ~np.isin(to, missing))


def views_of(
    shown: Shown,
    triggers: Sequence[Trigger],
    rng: np.random.Generator,
    *,
    rich: bool = True,
    missing: Labels = NOBODY,
) -> Views:
    """Views of the pictures, and of some of them with each trigger on, none that goes to a class of which a picture is
    `missing`. rich: behind them as many posed ones, and as many with a piece of another picture, which no trigger goes on:
    more of what clean rows can be than ten pictures show.
    """
    copies = max(1, min(FIT_VIEWS, MOST_VIEWS // len(shown)))
    clean = Shown.to(shown.subject, augmented(shown.pictures, copies - 1, rng), np.tile(shown.labels, copies))
    triggered, of = [], []
    for trigger in triggers:
        moved = _moved(clean, trigger, missing)
        rows = rng.choice(moved, min(len(moved), VIEWS_OF_TRIGGER), replace=False)
        triggered.append(trigger.apply(clean.pictures[rows]))
        of.append(rows)
    more = [posed(shown.pictures, copies, rng), pasted(shown.pictures, len(clean), rng)] if rich else []
    return Views(
        np.concatenate([clean.pictures, *more]), np.concatenate(triggered), np.concatenate(of).astype(np.int64)
    )
