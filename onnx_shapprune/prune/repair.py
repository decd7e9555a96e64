"""Prune until the adversary finds nothing worth the name, or until the clean budget is spent.

After every group of units the original file is baked anew, prepared anew, and attacked anew. "Repaired" is said only when
the strongest patch for the target, warm or fresh, is no stronger than what the model's other classes naturally allow;
that the triggers known so far no longer work proves nothing. Once that holds, pruning goes on a little where it is cheap:
the attacker's trigger is not the recovered one, and may live on paths of which that shows only a trace.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.subject import Floats, Labels, Pixels, Subject
from onnx_shapprune.game.replay import Player
from onnx_shapprune.game.value import PULL_LEFT, distortion
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.canonical import canonical
from onnx_shapprune.graph.interface import Interface
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.invert.arms import Scores, rate
from onnx_shapprune.invert.families import Family
from onnx_shapprune.invert.scan import distance
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.augment import augmented
from onnx_shapprune.prune.bank import Hunt, HuntSettings, Natural, hunt
from onnx_shapprune.prune.round import CleanRows, Round, RoundSettings, choose, play

if TYPE_CHECKING:  # onnx stays inside runtime/, graph/ and autodiff/
    import onnx

Off = dict[str, list[int]]
Bools = NDArray[np.bool_]
StageProgress = Callable[[str, int, int, str], None]

COST_VIEWS = 160  # views on which the clean cost is measured, at most sixteen of each picture
# Accuracy lost on unseen pictures per unit of distortion: 0.25 to 0.65 on half of 28 networks (14 random sets each, 1,000
# pictures), 0 to 1.4 on all. Neither wrong answers on views nor margins under noise tell which network has how much.
LOSS_PER_DISTORTION = 0.5
PULL_ALIVE = 0.5
MARGIN_ROUNDS = 3  # rounds after the first that holds
MARGIN_BUDGET = 0.75  # share of the clean budget that they may use up
# What is left of a backdoor counts as 1 in every round's game. Where little is left, a clean answer is worth more of it.
MARGIN_WEIGHT = 3.0
MARGIN_GROUP = 2
EVER = 64  # triggers kept as the growing test set
LAST = 8  # known triggers to play on when no trigger works on half of the pictures
MAX_BANNED = 24  # units that were tried and cost too much, before pruning gives up
TARGET_SHARE = 1 / 3  # of the clean pictures' weight
ONE_SIDED_95 = 1.645


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairSettings:
    """max_units: units that may be switched off; clean_budget: share of clean answers that may be lost, 0..1; sides: of
    the adversary's patches in pixels: the audit's, one more for every other turn, and a wide one for the first; natural:
    per goal, what triggers reach without a backdoor; families: of the audit, at a fixed budget; views: of the clean
    pictures, at most four of each, on which damage and known triggers are measured; hunt, round: widths of the
    adversary's search and of the game.
    """

    max_units: int
    clean_budget: float
    sides: tuple[int, int, int]
    natural: Mapping[Goal, Natural]
    families: Mapping[str, Family]
    views: int
    hunt: HuntSettings
    round: RoundSettings


@dataclass(frozen=True, slots=True)
class Step:
    """After one round: units off so far, what the game chose, and what the adversary found on the baked file."""

    off: Off
    round: Round
    chosen: tuple[Player, ...]
    hunt: Hunt
    clean_cost: float
    known_asr: float
    found: bool
    acc: float

    @property
    def count(self) -> int:
        return sum(len(c) for c in self.off.values())


@dataclass(frozen=True, slots=True)
class Repair:
    """repaired: whether the last step holds; reason in words; off: the best plan; steps in order."""

    repaired: bool
    reason: str
    off: Off
    steps: tuple[Step, ...]


def clean_rows(
    subject: Subject, pictures: Pixels, labels: Labels, goals: Sequence[Goal], views: int, rng: np.random.Generator
) -> CleanRows:
    """About `views` views of the clean pictures, at most four of each, with the unpruned model's logits.

    Pictures of a target class weigh TARGET_SHARE together: the channels of a backdoor also speak for the class itself,
    and what pruning costs falls on it (39 % of its recall on NAD's network, where the other classes lost 7 % at most).
    """
    if len(pictures) > views:
        drawn = np.sort(rng.choice(len(pictures), views, replace=False))
        pictures, labels = pictures[drawn], labels[drawn]
    copies = min(3, views // len(pictures) - 1)
    shown = augmented(pictures, copies, rng)
    truth = np.tile(labels, copies + 1)
    return CleanRows(shown, truth, subject.logits(shown), class_weights(truth, [t for g in goals for t in g.targets]))


def class_weights(labels: Labels, targets: Sequence[int]) -> NDArray[np.float64]:
    """Weights of rows, float64 [n], that sum to 1; the rows of the target classes to TARGET_SHARE, if it is less, more."""
    mine = np.isin(labels, targets)
    uniform = np.full(len(labels), 1 / len(labels))
    if not mine.any() or mine.mean() >= TARGET_SHARE:
        return uniform
    return np.asarray(np.where(mine, TARGET_SHARE / mine.sum(), (1 - TARGET_SHARE) / (~mine).sum()))


def baked_subject(
    original: "onnx.ModelProto",
    interface: Interface,
    layers: Sequence[Layer],
    off: Mapping[str, Sequence[int]],
    subject: Subject,
) -> Subject:
    """The model with `off` baked into the original file, prepared like `subject`."""
    baked = bake(original, layers, off)
    prepared = canonical(prepare(baked, interface, subject.prepared.input_shape, subject.device), subject.device)
    return Subject(prepared, subject.preprocessing, subject.device, subject.reach)


def repair(
    original: "onnx.ModelProto",
    interface: Interface,
    layers: Sequence[Layer],
    subject: Subject,
    pictures: Pixels,
    labels: Labels,
    goals: Sequence[Goal],
    known: Sequence[Trigger],
    settings: RepairSettings,
    rng: np.random.Generator,
    *,
    attacked: tuple[Pixels, Labels] | None = None,
    progress: StageProgress | None = None,
) -> Repair:
    """Switch off units of `original` until none of `goals` is reached by a trigger that stands out.

    pictures: float32 [n, h, w, c]; labels: the answers to be kept, int64 [n]; known: triggers recovered so far. attacked:
    pictures and labels that triggers are put on, where these are others.
    """
    copies = min(15, max(1, COST_VIEWS // len(pictures) - 1))
    views, truth = augmented(pictures, copies, rng), np.tile(labels, copies + 1)
    right = subject.logits(views).argmax(1) == truth
    clean = clean_rows(subject, pictures, labels, goals, settings.views, rng)

    tried = attacked or (clean.pictures, clean.labels)  # what the growing test set goes on
    attacked = attacked or (pictures, labels)
    off: Off = {}
    steps: list[Step] = []
    banned: set[Player] = set()
    current, bank = subject, _hunt_all(subject, *attacked, goals, known, settings, rng, 0)
    if not bank.bank:
        bank = replace(bank, bank=tuple(known))
    ever = [*known, *bank.bank]
    reason = "no trigger was left to learn from"

    def examine(
        current: Subject, off: Off, round_: Round, chosen: Sequence[Player], turn: int
    ) -> tuple[Step, tuple[Trigger, ...], bool]:
        """Attack a plan. The step; those of the known triggers that still pull most; whether none does anything any more."""
        hunted = _hunt_all(current, *attacked, goals, bank.bank, settings, rng, turn)
        acc = float((current.logits(pictures).argmax(1) == labels).mean())
        cost = LOSS_PER_DISTORTION * distortion(current.logits(clean.pictures), clean.logits, clean.weights)
        rated = rate(current, *tried, ever)
        pull = pulls(current.logits(tried[0]), tried[1], ever, rated)
        telling = [i for i, t in enumerate(ever) if settings.natural[t.goal].tells(t)]
        alive = any(rated.asr[i] > settings.natural[ever[i].goal].chance(ever[i]) for i in telling)
        scaled = max((pull[i] / settings.natural[ever[i].goal].area(ever[i]) for i in telling), default=0.0)
        works = max((float(rated.asr[i]) for i in telling), default=0.0)
        step = Step(off, round_, tuple(chosen), hunted, cost, works, stands_out(hunted, alive, scaled), acc)
        if progress:
            progress("pruning", step.count, settings.max_units, _words(step))
        strongest = tuple(ever[i] for i in np.argsort(-pull, kind="stable")[:LAST])
        return step, strongest, works == 0 or max(pull[telling], default=0.0) <= PULL_LEFT

    held: Off | None = None  # the last step that holds, with none after it that does not
    holding = 0
    while bank.bank:
        count = sum(len(c) for c in off.values())
        if count >= settings.max_units:
            reason = f"{count} units are off, the limit, and a trigger still stands out"
            break
        if count + len(banned) >= sum(layer.channels for layer in layers):
            reason = "no unit is left to try, and a trigger still stands out"
            break
        # A concentrated backdoor falls early and cheaply; a distributed one needs bolder steps as the limit comes near.
        weight = settings.round.clean_weight * max(1 / 3, 1 - count / settings.max_units)
        width = replace(settings.round, clean_weight=weight)
        if held:
            width = replace(width, clean_weight=weight * MARGIN_WEIGHT, group=min(width.group, MARGIN_GROUP))
        budget = settings.clean_budget * (MARGIN_BUDGET if held else 1)
        affordable = budget / LOSS_PER_DISTORTION
        played = play(
            current,
            layers,
            off,
            bank.bank,
            *attacked,
            clean,
            width,
            rng,
            distortion=affordable,
            banned=banned,
            progress=_stage(progress, f"game, {count} units off"),
        )
        chosen: list[Player] = []
        while played and len(banned) < MAX_BANNED:
            round_ = played[0]
            chosen = choose(*played, width, limit=settings.max_units - count, distortion=affordable, banned=banned)
            trial = with_units(off, layers, chosen)
            pruned = baked_subject(original, interface, layers, trial, subject)
            _, surely = clean_cost(right, pruned.logits(views).argmax(1) == truth, len(pictures))
            if not chosen or surely <= budget:
                break
            # The dearest unit of the group is not tried again: its rivals do the same work for less, or nobody does.
            banned.add(round_.by_cost(chosen)[0])
            chosen = []
        played = None  # with its sessions and cached activations
        if not chosen:
            reason = (
                f"every way found to weaken the trigger further costs more clean answers than the budget of "
                f"{settings.clean_budget:.1%} allows"
            )
            break
        off, current = trial, pruned
        step, strongest, quiet = examine(current, off, round_, chosen, len(steps) + 1)
        steps.append(step)
        ever = [*ever, *step.hunt.bank][-EVER:]
        # Where nothing reaches half of the pictures any more, learn from what still reaches most.
        bank = step.hunt if step.hunt.bank else replace(step.hunt, bank=strongest)
        held, holding = (None, 0) if step.found else (off, holding + 1)
        # Enough is enough when no trigger that was ever recovered reaches a single view, or drags it any way worth the name.
        if held and (quiet or holding > MARGIN_ROUNDS):
            break
    # The last group may have done more than was needed: units are put back, the dearest first, where the plan holds without.
    for player in steps[-1].round.by_cost(steps[-1].chosen) if held else ():
        last = steps[-1]
        if len(last.chosen) == 1 or last.clean_cost <= MARGIN_BUDGET * settings.clean_budget:
            break
        fewer = [p for p in last.chosen if p != player]
        off = with_units(steps[-2].off if len(steps) > 1 else {}, layers, fewer)
        pruned = baked_subject(original, interface, layers, off, subject)
        step, _, _ = examine(pruned, off, last.round, fewer, len(steps))
        if not step.found:
            steps[-1], held = step, off
    if held:
        reason = "no search finds a trigger for the target that stands out any more"
    return Repair(held is not None, reason, held or off, tuple(steps))


def with_units(off: Off, layers: Sequence[Layer], players: Sequence[Player]) -> Off:
    """A plan with more units off."""
    more = {name: list(channels) for name, channels in off.items()}
    for player in players:
        more.setdefault(layers[player.layer].name, []).append(player.channel)
    return more


def pulls(logits: Floats, labels: Labels, triggers: Sequence[Trigger], rated: Scores) -> NDArray[np.float64]:
    """How far each trigger still moves pictures towards its target, as a share of their natural distance from it.

    0: it does nothing; 1: on average the pictures reach the boundary. logits [n, classes], labels int64 [n]: of clean
    pictures on this model; rated: the triggers on the same. Distances are mean logit margins of the pictures of other
    classes; a class that is natural for them (no distance) counts as 1.
    """
    shares = []
    for trigger, margin in zip(triggers, rated.margin, strict=True):
        way = distance(logits, labels, trigger.goal)
        shares.append(1 + margin / way if way > 0 else 1.0)
    return np.array(shares)


def stands_out(found: Hunt, alive: bool, pull: float) -> bool:
    """Whether a fresh, warm or known trigger still does more than chance allows on this model.

    Either the adversary found a trigger better than natural, or one of the audit's budget reaches half of the pictures
    with a margin above what is natural, or one of all triggers ever recovered is `alive` (sends more
    pictures to the target than `Natural.chance`), or drags them more than half of the way there (`pull`, over the size of
    the trigger): the attacker's trigger may be somewhat stronger than the recovered ones. On models whose true trigger is
    known the last tests are the sharp ones: at a known ASR of 0.44 the true trigger still had one of 66 %, at 0.08 and
    without wide patches 18 %.
    """
    return bool(found.bank) or (found.asr >= 0.5 and found.margin > found.bar) or alive or pull > PULL_ALIVE


def _hunt_all(
    subject: Subject,
    pictures: Pixels,
    labels: Labels,
    goals: Sequence[Goal],
    known: Sequence[Trigger],
    settings: RepairSettings,
    rng: np.random.Generator,
    turn: int,
) -> Hunt:
    """The adversary against every goal; the strongest of each statistic. Turn 0 is the unpruned model.

    Wide patches are only searched there: with enough pixels every class of every model can be reached, but what they find
    on the unpruned model is the backdoor, by more paths than the narrow ones use.
    """
    side, larger, wide = settings.sides
    sides = (side, wide) if turn == 0 else (side, larger) if turn % 2 else (side,)
    hunts = [
        hunt(
            subject,
            pictures,
            labels,
            g,
            [k for k in known if k.goal == g],
            sides=sides,
            natural=settings.natural[g],
            families=settings.families,
            settings=settings.hunt,
            rng=rng,
            exhaustive=turn == 0,
        )
        for g in goals
    ]
    subject.rest()
    worst = max(hunts, key=lambda h: h.margin - h.bar)
    return replace(worst, bank=tuple(t for h in hunts for t in h.bank))


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


def _words(step: Step) -> str:
    return (
        f"patch margin {step.hunt.margin:.1f}, ASR {step.hunt.asr:.0%}, known triggers {step.known_asr:.0%}, "
        f"clean cost {step.clean_cost:+.1%}"
    )


def _stage(progress: StageProgress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total, "")
