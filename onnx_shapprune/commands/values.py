"""Shapley values of a model's channels for a trigger that is known, in one process or a block of the walks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnx_shapprune.case.open import Case, open_case
from onnx_shapprune.case.progress import Progress, stage
from onnx_shapprune.commands.effort import effort_for, round_settings
from onnx_shapprune.errors import DataError
from onnx_shapprune.game.replay import Player
from onnx_shapprune.game.value import DualGame
from onnx_shapprune.invert.known import known_trigger_of
from onnx_shapprune.prune.clean import clean_rows
from onnx_shapprune.prune.round import game_for, lay, walk_settings
from onnx_shapprune.record.walks import WalksRecord
from onnx_shapprune.settings import InputOptions, RunOptions
from onnx_shapprune.shapley.blocks import play_block, walker
from onnx_shapprune.shapley.estimate import Estimate


@dataclass(frozen=True, slots=True)
class ChannelValues:
    """players: name of the layer, and channel, in the order of the estimate's values."""

    players: tuple[tuple[str, int], ...]
    estimate: Estimate


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
