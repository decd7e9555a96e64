"""Shapley values of a model's channels: `values` for what an audit names, which is the command; `channel_values` and `walks`
for a trigger that is known, in one process or a block of the walks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnx_shapprune.case.open import Case, Clock, open_case
from onnx_shapprune.case.progress import Progress, stage
from onnx_shapprune.commands.audit import effort_of, examined
from onnx_shapprune.commands.effort import effort_for, round_settings
from onnx_shapprune.errors import DataError
from onnx_shapprune.game.replay import Player
from onnx_shapprune.game.value import DualGame
from onnx_shapprune.invert.known import known_trigger_of
from onnx_shapprune.prune.clean import clean_rows
from onnx_shapprune.prune.round import Playable, game_for, lay, play, walk_settings
from onnx_shapprune.record.values import ValuesRecord
from onnx_shapprune.record.walks import WalksRecord
from onnx_shapprune.recording.assemble import values_record
from onnx_shapprune.recording.draft import Draft
from onnx_shapprune.settings import InputOptions, RunOptions
from onnx_shapprune.shapley.blocks import play_block, walker
from onnx_shapprune.shapley.estimate import Estimate


@dataclass(frozen=True, slots=True)
class ChannelValues:
    """players: name of the layer, and channel, in the order of the estimate's values."""

    players: tuple[tuple[str, int], ...]
    estimate: Estimate


def values(
    model: Path | str,
    data: Path | str | None,
    *,
    known_trigger: Sequence[Path] = (),
    layers: Sequence[str] = (),
    inputs: InputOptions | None = None,
    run: RunOptions | None = None,
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> ValuesRecord:
    """Shapley values of channels in the game on the triggers of what an audit names, or on a known one.

    model, data, known_trigger: as for `audit`. layers: names as in `shapprune inspect`, () for all; the channels of others
    stay on. `run.players` says which of them play. Where nothing is named, the record has no values and its `reason` says
    why. Raises ShapPruneError.
    """
    inputs, run, clock = inputs or InputOptions(), run or RunOptions(), Clock()
    if layers:  # a wrong name is not to be told after minutes of search
        _players(open_case(Path(model), None if data is None else Path(data), inputs, run), layers)
    draft = examined(model, data, inputs, run, known_trigger, clock, progress)
    others = frozenset(_players(draft.case, ())) - frozenset(_players(draft.case, layers))
    reason = _unplayable(draft, run)
    if not reason:
        with clock.stage("shapley"):
            case, effort, rng = draft.case, effort_of(draft.case.model, run), np.random.default_rng(run.seed)
            clean = clean_rows(case.shown, draft.goals, effort.views, rng)
            units = Playable(layers=case.model.units.layers, off={}, banned=others)
            ticks = stage(progress, "shapley values")
            played = play(draft.attacked, draft.triggers, clean, units, effort.round, rng, progress=ticks)
        draft.round = played[0] if played else None
        reason = "" if played else "no picture is left that the triggers could move"
    return values_record(draft, inputs, run, clock, command, reason=reason, played=layers)


def _unplayable(draft: Draft, run: RunOptions) -> str:
    """Why there is no game to play, in words, else ""."""
    if not draft.goals:
        return "; ".join(draft.decided.reasons[:1] or draft.decided.doubts[:1]) or "nothing was named"
    if draft.written:
        return "the trigger stands in the graph itself, and no channel carries it"
    obstacle = draft.case.model.subject.obstacle
    if obstacle and run.players != "all":
        return f"a shortlist needs gradients, and all players do not: {obstacle}"
    return ""


def channel_values(
    model: Path | str,
    data: Path | str | None,
    *,
    known_trigger: Sequence[Path],
    layers: Sequence[str] = (),
    inputs: InputOptions | None = None,
    run: RunOptions | None = None,
    progress: Progress | None = None,
) -> ChannelValues:
    """Shapley values of all channels of some layers, () for all, in the game of an audit with this trigger; the channels of
    other layers stay on. Always by walks of `run.estimator`, "permutation" or "antithetic", however few players there are.

    model, data, known_trigger: as for `audit`. layers: names as in `shapprune inspect`. Raises ShapPruneError.
    """
    run = run or RunOptions()
    settings = walk_settings(round_settings(run))
    game, players = _known_game(Path(model), data, known_trigger, layers, inputs or InputOptions(), run)
    rng = np.random.default_rng(run.seed)
    estimator = walker(game, len(players), settings=settings, rng=rng, gauge=game.strength)
    estimate = estimator.run(
        evaluations=run.max_evaluations,
        seconds=run.max_seconds,
        progress=stage(progress, "walks"),
    )
    return ChannelValues(players, estimate)


def walks(
    model: Path | str,
    data: Path | str | None,
    *,
    known_trigger: Sequence[Path],
    layers: Sequence[str] = (),
    block: tuple[int, int],
    inputs: InputOptions | None = None,
    run: RunOptions | None = None,
    progress: Progress | None = None,
) -> WalksRecord:
    """Those walks of `channel_values` that have the numbers block[0] to block[1] - 1, to be merged by shapley/blocks.py."""
    run = run or RunOptions()
    settings = walk_settings(round_settings(run))
    game, players = _known_game(Path(model), data, known_trigger, layers, inputs or InputOptions(), run)
    paths = play_block(
        game,
        len(players),
        range(*block),
        settings=settings,
        seed=run.seed,
        gauge=game.strength,
        progress=stage(progress, "walks"),
    )
    return WalksRecord(players=players, paths=tuple(tuple(map(tuple, path.tolist())) for path in paths))


def _known_game(
    model: Path,
    data: Path | str | None,
    known_trigger: Sequence[Path],
    layers: Sequence[str],
    inputs: InputOptions,
    run: RunOptions,
) -> tuple[DualGame, tuple[tuple[str, int], ...]]:
    """The game of an audit with a known trigger, all of it drawn from the seed, and its players."""
    case = open_case(model, None if data is None else Path(data), inputs, run)
    units = case.model.units.layers
    players = _players(case, layers)
    trigger = known_trigger_of(case, known_trigger)
    effort = effort_for(case.model.subject.prepared, run)
    rng = np.random.default_rng(run.seed).spawn(1)[0]  # the orders of the walks have the other
    clean = clean_rows(case.shown, (trigger.goal,), effort.views, rng)
    table = lay(case.shown, (trigger,), clean, effort.round, rng)
    game = game_for(case.model.subject, units, table, effort.round, players)
    return game, tuple((units[p.layer].name, p.channel) for p in players)


def _players(case: Case, layers: Sequence[str]) -> list[Player]:
    """All channels of the named layers. Raises DataError for a name that no layer has."""
    units = case.model.units.layers
    names = [layer.name for layer in units]
    if unknown := [name for name in layers if name not in names]:
        raise DataError(f"no layer {unknown[0][:80]!r} has units: see shapprune inspect for those that do")
    if not units:
        raise DataError("the model has no units that can be switched off")
    return [
        Player(i, c)
        for i, layer in enumerate(units)
        if not layers or layer.name in layers
        for c in range(layer.channels)
    ]
