"""What a model is shown: clean pictures, their labels, and its own answers to them, without any trigger.

A trigger's success has this baseline. A picture that the model sends to the target by itself says nothing about a trigger,
whatever stands on its label: it is left out of every rate. After a repair the model is another, and so are its answers,
which is why they stand beside the subject that gave them (`Shown.on`).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import UNMOVED, Goal
from onnx_shapprune.case.subject import Floats, Labels, Pixels, Subject, margins


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Pictures in front of one model. pictures: float32 [n, h, w, c] in 0..255; labels: int64 [n], what they show; logits:
    float32 [n, classes], the subject's on the clean pictures.
    """

    subject: Subject
    pictures: Pixels
    labels: Labels
    logits: Floats

    @classmethod
    def to(cls, subject: Subject, pictures: Pixels, labels: Labels) -> "Shown":
        """Show pictures to a model."""
        return cls(subject, pictures, labels, subject.logits(pictures))

    def on(self, subject: Subject) -> "Shown":
        """The same pictures in front of another model."""
        return Shown.to(subject, self.pictures, self.labels)

    def part(self, rows: NDArray[np.int64]) -> "Shown":
        """Some of the pictures, by number."""
        return replace(self, pictures=self.pictures[rows], labels=self.labels[rows], logits=self.logits[rows])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width and channels of a picture."""
        return self.pictures.shape[1], self.pictures.shape[2], self.pictures.shape[3]

    @property
    def answers(self) -> Labels:
        """The model's own answers, int64 [n]."""
        return np.asarray(self.logits.argmax(1), np.int64)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which pictures get their label, bool [n]."""
        return np.asarray(self.answers == self.labels)

    @property
    def accuracy(self) -> float:
        """Share of the pictures that get their label, 0..1."""
        return float(self.right.mean())

    def moved(self, goal: Goal) -> Labels:
        """Where a trigger has to move each picture for its goal, int64 [n]; UNMOVED where the attacker wants nothing of
        it, or the model answers with that class already.
        """
        to = goal.of(self.labels)
        return np.where(to == self.answers, UNMOVED, to)

    def count(self, goal: Goal) -> int:
        """How many pictures a trigger has to move."""
        return int((self.moved(goal) != UNMOVED).sum())

    def distance(self, goal: Goal) -> float:
        """By which mean logit margin the pictures to be moved miss the goal; 0 where there are none."""
        to = self.moved(goal)
        rows = to != UNMOVED
        return -float(margins(self.logits[rows], to[rows]).mean()) if rows.any() else 0.0
