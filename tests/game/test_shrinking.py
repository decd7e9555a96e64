"""Channels that are taken out of the network leave the same logits as channels that are masked."""

import models
import numpy as np
import planted
import pytest
from test_replay import CLOSE, GRAPHS, coalitions_of, full_runs, players_of

from onnx_shapprune.game.replay import Replay
from onnx_shapprune.graph.cost import multiply_adds
from tests.benchmarks import shrink as shrink_module
from tests.benchmarks import shrinking
from tests.benchmarks.shrink import shrink, shrinkable
from tests.benchmarks.shrinking import ShrinkingReplay


@pytest.fixture(autouse=True)
def no_blocks(monkeypatch):
    monkeypatch.setattr(shrink_module, "BLOCK", 1)  # the tiny nets have hardly more channels than a block


@pytest.mark.parametrize("family", GRAPHS)
def test_a_walk_over_the_whole_network_gives_the_numbers_of_full_masked_runs(family, monkeypatch):
    monkeypatch.setattr(shrinking, "WORTHWHILE", 0)
    model = GRAPHS[family]()
    prepared, layers = planted.prepared_with_layers(model)
    players, inputs = players_of(layers), models.pictures(model, 2)
    replay = ShrinkingReplay(prepared, layers, players, inputs, planted.DEVICE)
    order = np.random.default_rng(0).permutation(len(players))
    walk = np.ones((len(players) + 1, len(players)), bool)
    for step, player in enumerate(order):
        walk[step + 1 :, player] = False
    some = walk[:: max(1, len(walk) // 6)]
    want = full_runs(prepared, layers, players, inputs, some)
    got = np.concatenate([replay(row[None]) for row in some])
    np.testing.assert_allclose(got, want, atol=CLOSE * max(1, np.abs(want).max()))
    # Another walk begins: what was taken out is back.
    others = coalitions_of(players, np.random.default_rng(1))
    want = full_runs(prepared, layers, players, inputs, others)
    np.testing.assert_allclose(replay(others), want, atol=CLOSE * max(1, np.abs(want).max()))


@pytest.mark.parametrize("family", ["conv_bn_relu_residual", "vgg_maxpool"])
def test_the_copy_really_is_smaller(family):
    model = GRAPHS[family]()
    prepared, layers = planted.prepared_with_layers(model)
    off = {i: list(range(layers[i].channels // 2)) for i in shrinkable(prepared, layers)}
    small = shrink(prepared, layers, off, planted.DEVICE)
    assert multiply_adds(small.prepared.model, small.prepared.infos) < multiply_adds(prepared.model, prepared.infos)
    for i, (layer, kept) in enumerate(zip(small.layers, small.kept, strict=True)):
        assert layer.channels == len(kept)
        assert set(range(layers[i].channels)) - set(off.get(i, ())) <= set(kept.tolist())


def test_what_an_addition_joins_goes_together_or_is_zeroed():
    # conv1 and conv2 are added: channel 0 is off in both and goes, channel 1 only in the first and stays, as zeros.
    n = models.Net()
    first, second = n.conv("x", 3, 4), n.conv("x", 3, 4)
    model = n.model(n.head(n.op("Relu", n.op("Add", first, second)), 4))
    prepared, layers = planted.prepared_with_layers(model)
    small = shrink(prepared, layers, {0: [0, 1], 1: [0]}, planted.DEVICE)
    assert [k.tolist() for k in small.kept] == [[1, 2, 3], [1, 2, 3]]
    players = players_of(layers)
    x = models.pictures(model, 3)
    want = Replay(prepared, layers, players, x, planted.DEVICE)(
        np.array([[p.layer == 1 or p.channel > 1 for p in players]]) & np.array([[p.channel > 0 for p in players]])
    )
    got = Replay(small.prepared, small.layers, [], x, planted.DEVICE).full
    np.testing.assert_allclose(got, want[0], atol=CLOSE)


def test_channels_are_kept_in_blocks(monkeypatch):
    monkeypatch.setattr(shrink_module, "BLOCK", 2)
    prepared, layers = planted.prepared_with_layers(models.vgg_maxpool())
    small = shrink(prepared, layers, {0: [0, 1]}, planted.DEVICE)
    assert [len(k) for k in small.kept] == [4, 6, 7], "two of five are off: one stays for the block"


def test_small_games_do_not_shrink(monkeypatch):
    def refuse(*_):
        raise AssertionError("shrunk")

    monkeypatch.setattr(shrinking, "shrink", refuse)
    model = models.vgg_maxpool()
    prepared, layers = planted.prepared_with_layers(model)
    players, inputs, off = players_of(layers)[:2], models.pictures(model, 2), np.zeros((1, 2), bool)
    replay = ShrinkingReplay(prepared, layers, players, inputs, planted.DEVICE)
    np.testing.assert_array_equal(replay(off), Replay(prepared, layers, players, inputs, planted.DEVICE)(off))
    assert replay._smaller is None


def test_a_layer_with_groups_cannot_shrink():
    prepared, layers = planted.prepared_with_layers(models.depthwise())
    refused = set(range(len(layers))) - shrinkable(prepared, layers)
    assert refused
    with pytest.raises(ValueError, match="without groups"):
        shrink(prepared, layers, {refused.pop(): [0]}, planted.DEVICE)
