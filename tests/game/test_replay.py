"""Replaying from a cached start gives the numbers of full masked runs, whatever the graph looks like."""

from dataclasses import replace
from functools import partial

import attention
import models
import numpy as np
import onnx
import planted
import pytest

from onnx_shapprune.game.replay import Player, Replay
from onnx_shapprune.graph.mask import insert_masks, mask_name, mask_shape
from onnx_shapprune.runtime.session import Session

GRAPHS = {
    **models.FAMILIES, "frozen_batch": planted.frozen_batch, "windows": planted.windows,
    "asked_shape": planted.asked_shape, "sequence_first": planted.sequence_first,
    **{way: partial(attention.network, way) for way in attention.WAYS},
}  # fmt: skip
CLOSE = 3e-5


def players_of(layers) -> list[Player]:
    return [Player(i, c) for i, layer in enumerate(layers) for c in range(layer.channels)]


def full_runs(prepared, layers, players, inputs, coalitions) -> np.ndarray:
    """Every coalition through the whole masked graph, one picture at a time."""
    session = Session(insert_masks(prepared.model, dict(enumerate(layers)), prepared.infos), planted.DEVICE)
    out = []
    for row in coalitions:
        masks = [np.ones(layer.channels, np.float32) for layer in layers]
        for player, on in zip(players, row, strict=True):
            masks[player.layer][player.channel] = on
        feeds = {mask_name(i): m.reshape(1, *mask_shape(layers[i], prepared.infos)) for i, m in enumerate(masks)}
        out.append([session.run({prepared.input: x[None], **feeds})[0].reshape(-1) for x in inputs])
    return np.array(out)


def coalitions_of(players, rng: np.random.Generator) -> np.ndarray:
    """All on, all off, sparse and dense ones, and for every layer one that touches nothing before it."""
    n = len(players)
    rows = [np.ones(n, bool), np.zeros(n, bool)]
    rows += [rng.random(n) < share for share in (0.2, 0.5, 0.7, 0.9)]
    layer = np.array([p.layer for p in players])
    rows += [(layer != i) | (rng.random(n) < 0.5) for i in np.unique(layer)]
    return np.array(rows)


@pytest.mark.parametrize("family", GRAPHS)
def test_replay_equals_full_masked_runs(family):
    model = GRAPHS[family]()
    onnx.checker.check_model(model)
    prepared, layers = planted.prepared_with_layers(model)
    players = players_of(layers)
    inputs = models.pictures(model, 3, seed=2)
    coalitions = coalitions_of(players, np.random.default_rng(0))
    replay = Replay(prepared, layers, players, inputs, planted.DEVICE)
    want = full_runs(prepared, layers, players, inputs, coalitions)
    moved = np.abs(want - want[0]).max(axis=(1, 2)) > 1e-4
    assert moved[1:5].all(), "vacuous: these coalitions change nothing"
    assert moved.mean() > 0.5
    np.testing.assert_allclose(replay(coalitions), want, atol=CLOSE * max(1, np.abs(want).max()))
    np.testing.assert_allclose(replay.full, want[0], atol=CLOSE * max(1, np.abs(want).max()))


def test_the_graphs_are_what_their_names_say():
    frozen, _ = planted.prepared_with_layers(planted.frozen_batch())
    assert not frozen.batch_free
    merged, layers = planted.prepared_with_layers(planted.windows())
    assert merged.batch_free
    replay = Replay(merged, layers, players_of(layers), models.pictures(planted.windows(), 2), planted.DEVICE)
    lengths = {len(v) for made in replay._known.values() for v in made.values()}
    assert lengths == {2, 8}, "no tensor between segments has windows in its batch"


@pytest.mark.parametrize("family", ["conv_bn_relu_residual", "windows", "frozen_batch"])
def test_players_may_be_some_units_in_any_order(family):
    model = GRAPHS[family]()
    prepared, layers = planted.prepared_with_layers(model)
    rng = np.random.default_rng(3)
    everyone = players_of(layers)
    players = [everyone[i] for i in rng.permutation(len(everyone))[:7]]
    inputs = models.pictures(model, 2)
    coalitions = rng.random((12, 7)) < 0.6
    replay = Replay(prepared, layers, players, inputs, planted.DEVICE)
    want = full_runs(prepared, layers, players, inputs, coalitions)
    np.testing.assert_allclose(replay(coalitions), want, atol=CLOSE * max(1, np.abs(want).max()))


@pytest.mark.parametrize("family", ["concat", "windows", "conv_bn_relu_residual"])
def test_little_memory_gives_the_same_numbers(family):
    model = GRAPHS[family]()
    prepared, layers = planted.prepared_with_layers(model)
    players, inputs = players_of(layers), models.pictures(model, 3)
    coalitions = np.random.default_rng(1).random((9, len(players))) < 0.7
    whole = Replay(prepared, layers, players, inputs, planted.DEVICE)(coalitions)
    small = Replay(prepared, layers, players, inputs, replace(planted.DEVICE, memory=1))
    np.testing.assert_allclose(small(coalitions), whole, atol=CLOSE)
    np.testing.assert_allclose(np.concatenate([small(row[None]) for row in coalitions]), whole, atol=CLOSE)


def test_kept_values_stay_under_their_limit():
    model = models.conv_bn_relu_residual()
    prepared, layers = planted.prepared_with_layers(model)
    players = players_of(layers)
    replay = Replay(prepared, layers, players, models.pictures(model, 3), replace(planted.DEVICE, memory=320_000))
    replay(np.random.default_rng(1).random((30, len(players))) < 0.7)
    kept = [v.nbytes for made in replay._known.values() for v in made.values()]
    assert 0 < sum(kept) == replay._kept_bytes <= 40_000


def test_a_step_of_a_walk_recomputes_only_what_lies_behind_it():
    model = models.vgg_maxpool()
    prepared, layers = planted.prepared_with_layers(model)
    players = players_of(layers)
    replay = Replay(prepared, layers, players, models.pictures(model, 4), planted.DEVICE)
    depth = len(layers) + 1  # a segment before, and one behind each mask
    assert [s.depends for s in replay._segments] == [tuple(range(i)) for i in range(depth)]
    assert replay.segments_run == depth
    on = np.ones((1, len(players)), bool)
    replay(on)
    assert replay.segments_run == depth, "nothing is off: all is known"
    behind = {layer: depth - 1 - layer for layer in range(len(layers))}
    for player in np.random.default_rng(0).permutation(len(players)):
        before = replay.segments_run
        on[0, player] = False
        replay(on)
        assert replay.segments_run - before == behind[players[player].layer]


def test_walks_side_by_side_share_what_they_have_in_common():
    model = models.vgg_maxpool()
    prepared, layers = planted.prepared_with_layers(model)
    players = players_of(layers)
    replay = Replay(prepared, layers, players, models.pictures(model, 4), planted.DEVICE)
    # The same channel of the first layer off, and three different ones of the last.
    on = np.ones((3, len(players)), bool)
    on[:, 0] = False
    on[range(3), [-1, -2, -3]] = False
    before = replay.segments_run
    replay(on)
    assert replay.segments_run - before == len(layers) - 1 + 3
