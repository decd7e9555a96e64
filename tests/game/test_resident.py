"""Values that stay on the device give the same logits; on the CPU the device is the host."""

from dataclasses import replace

import models
import numpy as np
import planted
import pytest
from test_replay import CLOSE, GRAPHS, coalitions_of, full_runs, players_of

from onnx_shapprune.game import resident
from onnx_shapprune.game.replay import Replay
from onnx_shapprune.game.resident import ResidentReplay, replay_for
from onnx_shapprune.runtime.session import CUDA, Resident


@pytest.mark.parametrize("sizes", [(1, 8, 64), (2,)])
@pytest.mark.parametrize("family", GRAPHS)
def test_resident_values_give_the_numbers_of_full_masked_runs(family, sizes, monkeypatch):
    monkeypatch.setattr(resident, "SIZES", sizes)
    model = GRAPHS[family]()
    prepared, layers = planted.prepared_with_layers(model)
    players, inputs = players_of(layers), models.pictures(model, 3)
    coalitions = coalitions_of(players, np.random.default_rng(0))
    replay = ResidentReplay(prepared, layers, players, inputs, planted.DEVICE)
    want = full_runs(prepared, layers, players, inputs, coalitions)
    np.testing.assert_allclose(replay(coalitions), want, atol=CLOSE * max(1, np.abs(want).max()))
    np.testing.assert_allclose(replay.full, want[0], atol=CLOSE * max(1, np.abs(want).max()))
    kept = [v for made in replay._known.values() for v in made.values()]
    # A fixed batch runs picture by picture, and what has the batch on another axis, or is a shape, one mask after the other.
    stay = {isinstance(v, Resident) for v in kept}
    assert stay == {family not in ("frozen_batch", "gathered", "asked_shape", "sequence_first")}
    assert sum(v.nbytes for v in kept) == replay._kept_bytes


def test_memory_is_bounded_here_too():
    model = models.conv_bn_relu_residual()
    prepared, layers = planted.prepared_with_layers(model)
    players, inputs = players_of(layers), models.pictures(model, 3)
    coalitions = np.random.default_rng(1).random((9, len(players))) < 0.7
    small = ResidentReplay(prepared, layers, players, inputs, replace(planted.DEVICE, memory=1))
    np.testing.assert_allclose(
        small(coalitions), Replay(prepared, layers, players, inputs, planted.DEVICE)(coalitions), atol=CLOSE
    )


def test_cuda_takes_the_resident_replay(monkeypatch):
    made = []
    monkeypatch.setattr(resident, "ResidentReplay", lambda *args: made.append(args))
    model = models.vgg_maxpool()
    prepared, layers = planted.prepared_with_layers(model)
    players, inputs = players_of(layers), models.pictures(model, 2)
    assert type(replay_for(prepared, layers, players, inputs, planted.DEVICE)) is Replay
    assert replay_for(prepared, layers, players, inputs, replace(planted.DEVICE, provider=CUDA)) is None
    assert len(made) == 1
