"""One round of pruning: play the dual game on the bank, rank the units, choose the next few to switch off."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import UNMOVED
from onnx_shapprune.case.progress import Ticks
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Floats, Labels, Pixels, Subject, margins
from onnx_shapprune.errors import DataError
from onnx_shapprune.game.replay import Player
from onnx_shapprune.game.resident import replay_for
from onnx_shapprune.game.sensitivity import Sensitivity
from onnx_shapprune.game.value import DualGame, Rows, backdoor_weights
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.prune.clean import CleanRows
from onnx_shapprune.prune.thresholds import ENUMERATED, LOCKSTEP, PATIENCE
from onnx_shapprune.settings import EstimatorName, ValueName
from onnx_shapprune.shapley.antithetic import AntitheticSettings
from onnx_shapprune.shapley.blocks import walker
from onnx_shapprune.shapley.estimate import Estimate, Game
from onnx_shapprune.shapley.exact import exact_estimate
from onnx_shapprune.shapley.leverage import LeverageSettings, leverage
from onnx_shapprune.shapley.permutation import PermutationSettings
from onnx_shapprune.shapley.top_k import TopKSettings, top_k

ROWS_AT_ONCE = 256  # coalitions of one player off that are asked for together


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """shortlist: units that are tried alone, those with the largest first-order effect, which is cheap and rough; players:
    units in the game, those with the largest effect alone, None for all units that may go, whatever their effect; group:
    units switched off a round; candidates:
    ranked units of which the next one is taken; rows, clean_rows: triggered and clean pictures in the game; clean_weight:
    lambda of the dual game; value, estimator, and its permutations, epsilon, discard_threshold and limits, as in
    RunOptions. "top-k" looks for as many units as a group has.
    """

    shortlist: int = 48
    players: int | None = 24
    group: int = 4
    candidates: int = 12
    rows: int = 24
    clean_rows: int = 20
    clean_weight: float = 6.0
    value: ValueName = "dual"
    estimator: EstimatorName = "permutation"
    permutations: int = 12
    epsilon: float | None = 0.3
    discard_threshold: float | None = 0.1
    max_evaluations: int | None = None
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Playable:
    """Which units may go. off: layer name -> channels that are off already; banned: units that are not to go; distortion: of
    the clean logits, the most that all units that are off may cause together.
    """

    layers: Sequence[Layer]
    off: Mapping[str, Sequence[int]]
    banned: Collection[Player] = ()
    distortion: float = math.inf


@dataclass(frozen=True, slots=True)
class Table:
    """What a game is played on. triggered: pictures float32 [m, h, w, c] with triggers; inputs: the model's, float32
    [m + clean rows, ...], these first; rows: what they are.
    """

    triggered: Pixels
    inputs: Floats
    rows: Rows


@dataclass(frozen=True, slots=True)
class Round:
    """A game that was played. players: who played; estimate: their values; alone: float64 (players, 2), fall of the
    backdoor and of the clean part when only that unit goes.
    """

    players: tuple[Player, ...]
    estimate: Estimate
    alone: NDArray[np.float64]

    def by_cost(self, chosen: Sequence[Player]) -> list[Player]:
        """`chosen`, those first that cost most of the clean part when they go alone."""
        return sorted(chosen, key=lambda p: -float(self.alone[self.players.index(p), 1]))


def play(
    shown: Shown,
    bank: Sequence[Trigger],
    clean: CleanRows,
    units: Playable,
    settings: RoundSettings,
    rng: np.random.Generator,
    *,
    progress: Ticks | None = None,
) -> tuple[Round, DualGame] | None:
    """Estimate Shapley values of the units that are still on; returns the round, and the game for `choose`.

    The game holds sessions and cached activations: drop it as soon as the choice is made. None where no unit can play, or
    no picture is left to be moved.

    shown: in front of the model with `units.off` already baked, the pictures that triggers go on. bank: working triggers,
    at least one. A unit that exceeds `units.distortion` when it goes alone does not play, unless all do.
    """
    subject, layers = shown.subject, units.layers
    table = lay(shown, bank, clean, settings, rng)
    if not table.rows.triggered:
        return None
    game_of = partial(game_for, subject, layers, table, settings)
    entrants = _every(units) if settings.players is None else _shortlist(shown, table, units, settings.shortlist)
    if not entrants:
        return None
    first = game_of(entrants)
    without, values = _one_off(first, len(entrants))
    lost = first.components(np.ones((1, len(entrants)), bool)) - without
    if settings.players is None:
        estimate = estimate_values(first, len(entrants), first.strength, settings, rng, progress)
        return Round(tuple(entrants), estimate, lost), first
    cheap = [i for i in np.argsort(values, kind="stable") if 1 - without[i, 1] <= units.distortion]
    kept = cheap[: settings.players]
    if not kept:
        return None
    players = [entrants[i] for i in kept]
    del first  # with its sessions and cached activations
    game = game_of(players)
    estimate = estimate_values(game, len(players), game.strength, settings, rng, progress)
    return Round(tuple(players), estimate, lost[kept]), game


def lay(
    shown: Shown, bank: Sequence[Trigger], clean: CleanRows, settings: RoundSettings, rng: np.random.Generator
) -> Table:
    """Draw what is played on; arguments as for `play`."""
    subject = shown.subject
    triggered, plain, targets = _triggered_rows(bank, shown, settings.rows, rng)
    natural = margins(subject.logits(plain), targets)
    some = slice(0, max(settings.clean_rows, len(shown)))  # every picture plays
    inputs = to_input(np.concatenate([triggered, clean.shown.pictures[some]]), subject.preprocessing)
    return Table(triggered, inputs, Rows(targets, natural, clean.shown.logits[some], clean.weights[some]))


def game_for(
    subject: Subject, layers: Sequence[Layer], table: Table, settings: RoundSettings, players: Sequence[Player]
) -> DualGame:
    """The game of these players."""
    replay = replay_for(subject.prepared, layers, players, table.inputs, subject.device)
    return DualGame(replay, table.rows, clean_weight=settings.clean_weight, value=settings.value, work=subject.work)


def walk_settings(settings: RoundSettings) -> PermutationSettings | AntitheticSettings:
    """Settings of the two estimators that walk to the end. Raises DataError where another one was chosen."""
    walks, threshold = settings.permutations, settings.discard_threshold
    if settings.estimator not in ("permutation", "antithetic"):
        raise DataError(f"the estimator {settings.estimator!r} does not serve here: choose permutation or antithetic")
    if settings.estimator == "antithetic":
        return AntitheticSettings(
            pairs=max(2, walks // 2), lockstep=LOCKSTEP, patience=PATIENCE, discard_threshold=threshold
        )
    return PermutationSettings(
        permutations=walks, lockstep=LOCKSTEP, patience=PATIENCE, epsilon=settings.epsilon, discard_threshold=threshold
    )


def estimate_values(
    game: Game,
    players: int,
    gauge: Game,
    settings: RoundSettings,
    rng: np.random.Generator,
    progress: Ticks | None = None,
) -> Estimate:
    """Values of the players by the estimator that `settings` names, or by enumeration where there are at most 12 and
    that asks for no more coalitions than whole walks would. gauge: what the discarding threshold looks at.
    """
    walks, threshold = settings.permutations, settings.discard_threshold
    most = min(walks * (players - 1) + 2, settings.max_evaluations or math.inf)
    if players <= ENUMERATED and 2**players <= most:
        return exact_estimate(game, players, progress=progress)
    match settings.estimator:
        case "permutation" | "antithetic":
            estimator = walker(game, players, settings=walk_settings(settings), rng=rng, gauge=gauge)
        case "top-k":
            top = TopKSettings(
                k=min(settings.group, players - 1),
                permutations=walks,
                lockstep=LOCKSTEP,
                patience=PATIENCE,
                discard_threshold=threshold,
            )
            estimator = top_k(game, players, settings=top, rng=rng, gauge=gauge)
        case "leverage":
            fit = LeverageSettings(pairs=walks * players // 2, lockstep=LOCKSTEP)
            estimator = leverage(game, players, settings=fit, rng=rng, gauge=gauge)
    return estimator.run(evaluations=settings.max_evaluations, seconds=settings.max_seconds, progress=progress)


def _triggered_rows(
    bank: Sequence[Trigger], shown: Shown, rows: int, rng: np.random.Generator
) -> tuple[Pixels, Pixels, Labels]:
    """About `rows` pictures, the same number for every trigger, drawn from those that it has to move: with the trigger,
    without it, and their targets.
    """
    each = max(2, rows // len(bank))
    triggered, plain, targets = [], [], []
    for trigger in bank:
        to = shown.moved(trigger.goal)
        others = np.flatnonzero(to != UNMOVED)
        pick = rng.choice(others, min(each, len(others)), replace=False)
        triggered.append(trigger.apply(shown.pictures[pick]))
        plain.append(shown.pictures[pick])
        targets.append(to[pick])
    return np.concatenate(triggered), np.concatenate(plain), np.concatenate(targets)


def _one_off(game: DualGame, players: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Components float64 (players, 2) and value float64 (players,) with one player off each; a few hundred at a time, since
    all rows of a whole network would take gigabytes.
    """
    components, values = [], []
    for start in range(0, players, ROWS_AT_ONCE):
        off = np.arange(start, min(start + ROWS_AT_ONCE, players))
        on = off[:, None] != np.arange(players)
        components.append(game.components(on))
        values.append(game(on))
    return np.concatenate(components), np.concatenate(values)


def _every(units: Playable) -> list[Player]:
    """The units that may go: still on and not banned, in the order of the graph."""
    gone = {Player(i, c) for i, layer in enumerate(units.layers) for c in units.off.get(layer.name, ())}
    gone.update(units.banned)
    every = (Player(i, c) for i, layer in enumerate(units.layers) for c in range(layer.channels))
    return [u for u in every if u not in gone]


def _shortlist(shown: Shown, table: Table, units: Playable, count: int) -> list[Player]:
    """Of the units that may go, those with the largest first-order effect. The clean part has none: distortion is smallest
    where nothing is switched off.
    """
    subject, targets = shown.subject, table.rows.targets
    _, weights = backdoor_weights(margins(subject.logits(table.triggered), targets), table.rows.natural)
    effect = Sensitivity(subject.prepared, units.layers, subject.device).margin_drop(
        table.inputs[: len(targets)], targets, weights
    )
    subject.work.shown(len(targets))
    first = np.cumsum([0, *(layer.channels for layer in units.layers)])
    return sorted(_every(units), key=lambda u: -effect[first[u.layer] + u.channel])[:count]


def choose(round_: Round, game: DualGame, settings: RoundSettings, units: Playable, *, limit: int) -> list[Player]:
    """At most min(group, limit) units to switch off, one after the other: each lowers the dual value most.

    Taking units blindly in Shapley order would take two that do the same work; looking at the best few again, with the
    earlier ones off, does not. The dual value weighs what a unit costs: a channel of the first layer may kill a trigger
    at once and cost more answers than five late ones together.
    """
    ranked = [i for i in round_.estimate.ranking().tolist() if round_.players[i] not in units.banned]
    on = np.ones(len(round_.players), bool)
    chosen: list[Player] = []
    while len(chosen) < min(settings.group, limit):
        left = [i for i in ranked if on[i]]
        for at in range(0, len(left), settings.candidates):
            trials = np.stack([on & (np.arange(len(on)) != i) for i in left[at : at + settings.candidates]])
            affordable = 1 - game.components(trials)[:, 1] <= units.distortion
            if affordable.any():
                break
        else:
            break
        values = np.where(affordable, game(trials), np.inf)
        if chosen and values.min() >= game(on[None])[0]:
            break  # the group is full when nobody left makes the value lower
        best = left[at + int(np.argmin(values))]
        on[best] = False
        chosen.append(round_.players[best])
    return chosen
