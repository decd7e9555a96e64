"""What a repair is about (`Task`, which stays as it is) and where it stands (`State`, which each step makes anew)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Pixels, Subject
from onnx_shapprune.game.replay import Player
from onnx_shapprune.invert.families import Family
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.bank import Hunt, HuntSettings, Natural
from onnx_shapprune.prune.clean import CleanRows, clean_cost, clean_rows, cost_views
from onnx_shapprune.prune.proposal import Edited, Original, Proposal
from onnx_shapprune.prune.round import RoundSettings
from onnx_shapprune.prune.thresholds import MARGIN_BUDGET, MARGIN_ROUNDS, RIDGE


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairSettings:
    """max_units: units that may be switched off; clean_budget: share of clean answers that may be lost, 0..1; sides: of
    the adversary's patches in pixels: the audit's, one more for every other turn, and a wide one for the first; natural:
    per goal, what triggers reach without a backdoor; families: of the audit, at a fixed budget; views: of the clean
    pictures, at most four of each, on which damage and known triggers are measured; hunt, round: widths of the
    adversary's search and of the game; more: pictures without labels that a realignment may learn from, float32 [n, h, w,
    c], None for none; named: triggers of the audit, which verify and a gate try again; kinds: of each family
    that the audit searched one, if it works, which fits are taught as well; ridge: of a realignment.
    """

    max_units: int
    clean_budget: float
    sides: tuple[int, int, int]
    natural: Mapping[Goal, Natural]
    families: Mapping[str, Family]
    views: int
    hunt: HuntSettings
    round: RoundSettings
    more: Pixels | None = None
    named: tuple[Trigger, ...] = ()
    kinds: tuple[Trigger, ...] = ()
    ridge: float = RIDGE


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """shown: the clean pictures, in front of the model as it was read, and so are all others. attacked: what the adversary
    puts triggers on; tried: what all triggers that were ever recovered are tried on; clean: views whose logits are to be
    kept; views: those on which lost answers are counted, the pictures of `shown` in turn.
    """

    original: Original
    goals: tuple[Goal, ...]
    settings: RepairSettings
    shown: Shown
    attacked: Shown
    tried: Shown
    clean: CleanRows
    views: Shown

    def surely_lost(self, subject: Subject) -> float:
        """Lower bound (95 %) of the clean accuracy that a model loses against the original, 0..1."""
        return clean_cost(self.views.right, self.views.on(subject).right, len(self.shown))[1]


def task_of(
    original: Original,
    shown: Shown,
    goals: tuple[Goal, ...],
    settings: RepairSettings,
    rng: np.random.Generator,
    *,
    attacked: Shown | None = None,
) -> Task:
    """Draw what a repair is measured on. attacked: where triggers go on other pictures than the clean ones."""
    views = cost_views(shown, rng)
    clean = clean_rows(shown, goals, settings.views, rng)
    return Task(original, goals, settings, shown, attacked or shown, attacked or clean.shown, clean, views)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A proposal that was taken, and what the adversary found on the file with it. clean_cost: expected loss on unseen
    pictures, 0..1; known_asr: the largest of all triggers ever recovered that tell anything; found: whether something still
    stands out; acc: of the clean pictures, 0..1.
    """

    proposal: Proposal
    hunt: Hunt
    clean_cost: float
    known_asr: float
    found: bool
    acc: float


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """edited: the file as repaired so far; bank: triggers that the next proposal learns from; ever: all that were recovered;
    first: those of the original file, and led: by how many logits the strongest was above what is natural there; banned:
    units that cost too much; held: the last proposal that holds, with none after it that does not, and holding: for how
    many steps; quiet: whether no trigger does anything worth the name any more.
    """

    edited: Edited
    bank: tuple[Trigger, ...]
    ever: tuple[Trigger, ...]
    first: tuple[Trigger, ...]
    led: float
    steps: tuple[Step, ...] = ()
    banned: frozenset[Player] = frozenset()
    held: Proposal | None = None
    holding: int = 0
    quiet: bool = False

    @property
    def settled(self) -> bool:
        """Enough is enough when no trigger that was ever recovered reaches a single view, or drags it any way worth the
        name; or after some more steps that held.
        """
        return self.held is not None and (self.quiet or self.holding > MARGIN_ROUNDS)

    def budget(self, settings: RepairSettings) -> float:
        """Clean accuracy that the repair as a whole may cost now, 0..1: less for a margin on what holds already."""
        return settings.clean_budget * (MARGIN_BUDGET if self.held else 1)
