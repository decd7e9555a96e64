"""What a realignment learns from: views of the given pictures, some with triggers on, and what it costs on others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnx_shapprune.case.goal import UNMOVED
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Labels, Pixels, Subject
from onnx_shapprune.game.value import distortion
from onnx_shapprune.graph.linear import Linear
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.augment import augmented, pasted, posed
from onnx_shapprune.prune.realign import Fit, Fold, Realigned, Views, realign
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
from onnx_shapprune.runtime.weights import weight_bytes

FOLDS_SHARE = 1 / 4  # of the memory, for the models of all folds


@dataclass(frozen=True, slots=True)
class Unseen:
    """What is expected of a fit on pictures that it did not learn from. lost: clean accuracy, 0..1; asr: share of the
    pictures, 0..1, that triggers of maps still move there; 0 where none was put on.
    """

    lost: float
    asr: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """What a fold is asked about. left: pictures that it leaves out; taught: triggers that the others can be taught; views:
    of those that are left out, in front of the original model.
    """

    left: Labels
    taught: Sequence[Trigger]
    views: Shown


@dataclass(frozen=True, eq=False)
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
        """A fit on all pictures, and without those of each fold; where the models of all folds are too large to be held, the
        fit is made once more for some of them.
        """
        views = views_of(self.shown, self.triggers, rng, rich=self.rich, folds=[t.left for t in self._unseen_by])
        if self.more is not None and len(self.more):
            drawn = self.more[np.sort(rng.choice(len(self.more), min(len(self.more), MOST_UNLABELLED), replace=False))]
            kept = [replace(f, clean=np.append(f.clean, np.ones(len(drawn), bool))) for f in views.folds]
            views = replace(views, clean=np.concatenate([views.clean, drawn]), folds=kept)
        each = weight_bytes(self.pruned.prepared.model)
        some = max(1, int(FOLDS_SHARE * self.pruned.device.memory) // max(1, each))
        seed = int(rng.integers(1 << 32))
        made = [
            realign(
                self.shown.subject,
                self.pruned,
                self.linears,
                replace(views, folds=views.folds[k : k + some]),
                fit,
                np.random.default_rng(seed),
            )
            for k in range(0, max(1, len(views.folds)), some)
        ]
        return replace(made[0], folds=tuple(f for m in made for f in m.folds))

    def learnt(self, made: Prepared) -> Subject:
        """The model after a fit."""
        like = self.pruned
        return Subject(made, like.preprocessing, like.device, like.work)

    def unseen(self, made: Realigned) -> Unseen:
        """What a fit does on pictures that it never saw, from its folds: views of one picture are no test of a fit to its
        other views. Of what is to be deployed, how far the logits of such pictures move counts as lost as well (ten of them
        seldom lose an answer), and triggers of maps are put on them: a map has a target for each class, and a fit learns
        each of them from one picture.
        """
        lost = moved = led = 0.0
        for fold, left_out in zip(made.folds, self._unseen_by, strict=True):
            views, count = left_out.views, len(left_out.left)
            after = views.on(self.learnt(fold))
            lost += float((views.right & ~after.right).mean()) * count
            if self.rich:
                moved += distortion(after.logits, views.logits, np.full(len(views), 1 / len(views))) * count
                if maps := [t for t in left_out.taught if t.goal.kind == "all-to-all"]:
                    led += float(rate(after, maps[:PUT_ON]).asr.mean()) * count
        others = len(self._left_out)
        most = max(1, others)
        return Unseen(max(LOST_UNSEEN * (lost + PRIOR_LOST) / (others + 1), LOST_BY_MOVING * moved / most), led / most)

    @property
    def _left_out(self) -> Labels:
        """Pictures that some fold leaves out, in their order. Those of the targets are in every fit. Of a map each class is
        a target, and nothing goes to one that a fold leaves out.
        """
        kept = np.isin(self.shown.labels, [t for trigger in self.triggers for t in trigger.goal.targets])
        return np.random.default_rng(0).permutation(np.flatnonzero(~kept if not kept.all() else kept))

    @cached_property
    def _unseen_by(self) -> list[LeftOut]:
        """One for each fold."""
        others, found = self._left_out, list[LeftOut]()
        for fold in (others[i::FOLDS] for i in range(min(FOLDS, len(others)))):
            rest = self.shown.part(np.setdiff1d(np.arange(len(self.shown)), fold))
            taught = [t for t in self.triggers if len(_moved(rest, t, _missing(self.shown, fold)))]
            if taught:
                left = self.shown.part(fold)
                pictures = augmented(left.pictures, FIT_VIEWS, np.random.default_rng(0))
                found.append(
                    LeftOut(fold, taught, Shown.to(self.shown.subject, pictures, np.tile(left.labels, FIT_VIEWS + 1)))
                )
        return found


def _missing(shown: Shown, left_out: Labels) -> Labels:
    """Classes of which no picture is left."""
    return np.setdiff1d(shown.labels[left_out], np.delete(shown.labels, left_out))


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
    folds: Sequence[Labels] = (),
) -> Views:
    """Views of the pictures, and of some of them with each trigger on. rich: behind them as many posed ones, and as many
    with a piece of another picture, which no trigger goes on: more of what clean rows can be than ten pictures show. folds:
    pictures that each of them leaves out, and with them what goes to a class of which no other picture is there.
    """
    copies = max(1, min(FIT_VIEWS, MOST_VIEWS // len(shown)))
    clean = Shown.to(shown.subject, augmented(shown.pictures, copies - 1, rng), np.tile(shown.labels, copies))
    triggered, of, to = [], [], []
    for trigger in triggers:
        goes = clean.moved(trigger.goal)
        moved = np.flatnonzero(goes != UNMOVED)
        rows = rng.choice(moved, min(len(moved), VIEWS_OF_TRIGGER), replace=False)
        triggered.append(trigger.apply(clean.pictures[rows]))
        of.append(rows)
        to.append(goes[rows])
    pictures = [clean.pictures]
    shows = np.tile(np.arange(len(shown)), copies)[:, None].repeat(2, axis=1)  # what is seen in each clean view
    if rich:
        pieced, pieces = pasted(shown.pictures, len(clean), rng)
        pictures += [posed(shown.pictures, copies, rng), pieced]
        shows = np.concatenate([shows, shows, pieces])
    stands, target = np.concatenate(of).astype(np.int64), np.concatenate(to)
    kept = []
    for left in folds:
        gone = np.isin(shows, left)
        lost = gone[stands, 0] | np.isin(target, _missing(shown, left))
        kept.append(Fold(np.asarray(~gone.any(axis=1)), ~lost))
    return Views(np.concatenate(pictures), np.concatenate(triggered), stands, kept)
