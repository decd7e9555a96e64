"""What an attacker wants: which pictures a trigger moves, and to which class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Kind = Literal["all-to-one", "source-specific", "all-to-all"]
UNMOVED = -1


@dataclass(frozen=True, slots=True)
class Goal:
    """Every class goes to `target`; or only the class `source` does; or class y goes to `mapping[y]`, each to its own.

    target of a mapping: that of class 0, which stands for it where one class must be named.
    """

    target: int
    source: int | None = None
    mapping: tuple[int, ...] | None = None

    @property
    def kind(self) -> Kind:
        if self.mapping is not None:
            return "all-to-all"
        return "all-to-one" if self.source is None else "source-specific"

    @property
    def targets(self) -> tuple[int, ...]:
        """All classes that the trigger answers with."""
        return (self.target,) if self.mapping is None else tuple(sorted(set(self.mapping)))

    @property
    def words(self) -> str:
        """For reasons: where the pictures go."""
        if self.mapping is None:
            return f"class {self.target}"
        shifts = {(t - y) % len(self.mapping) for y, t in enumerate(self.mapping)}
        return f"the class {shifts.pop()} further" if len(shifts) == 1 else "another class each"

    def of(self, labels: Labels) -> Labels:
        """Target of pictures of these classes, int64 [n]; UNMOVED where the attacker wants nothing of them."""
        if self.mapping is not None:
            targets = np.asarray(self.mapping, np.int64)[labels]
            return np.where(targets == labels, UNMOVED, targets)
        moved = labels != self.target if self.source is None else labels == self.source
        return np.where(moved, self.target, UNMOVED)


def all_to_one(targets: Sequence[int]) -> list[Goal]:
    """One goal per target class."""
    return [Goal(int(t)) for t in targets]


def shift_map(classes: int, by: int, among: Sequence[int] = ()) -> Goal:
    """All-to-all: class y to y + by; counted in `among`, where it is given, and other classes stay."""
    counted = among or range(classes)
    mapping = list(range(classes))
    for place, y in enumerate(counted):
        mapping[y] = counted[(place + by) % len(counted)]
    return Goal(mapping[counted[0]], mapping=tuple(mapping))
