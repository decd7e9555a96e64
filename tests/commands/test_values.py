"""Values of channels on a hand-made net, one of whose channels is known to carry the trigger."""

from dataclasses import replace

import numpy as np
import onnx
import planted
import pytest

from onnx_shapprune.commands.values import values
from onnx_shapprune.errors import DataError
from onnx_shapprune.record.values import ValuesRecord
from onnx_shapprune.sample import sample_path
from onnx_shapprune.settings import RECIPES, RunOptions

RUN = RunOptions(
    threads=1, device="cpu", permutations=6, restarts=1, calibration=planted.calibration(), players="all", epsilon=None
)
CARRIER = 6  # channel of the first layer that answers to the corner


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The hand-made net, the same with the trigger's channel off, pictures, and the trigger."""
    made = tmp_path_factory.mktemp("values")
    onnx.save(planted.rows_net(), made / "planted.onnx")
    clean = planted.rows_net()
    for tensor in clean.graph.initializer[:2]:
        array = onnx.numpy_helper.to_array(tensor).copy()
        array[CARRIER] = 0
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(clean, made / "clean.onnx")
    x, y = planted.rows_pictures(2)
    np.savez(made / "pictures.npz", x=x, y=y)
    mask, pattern = planted.corner_trigger()
    np.savez(made / "trigger.npz", mask=mask, pattern=pattern)
    return made


def of(files, name="planted.onnx", *, run=RUN, known=True, **settings) -> ValuesRecord:
    trigger = [files / "trigger.npz"] if known else []
    return values(files / name, files / "pictures.npz", known_trigger=trigger, run=run, **settings)


@pytest.fixture(scope="module")
def known(files) -> ValuesRecord:
    return of(files)


def test_the_channel_that_carries_a_known_trigger_is_worth_most(known):
    assert (known.reason, known.known_trigger, known.triggers) == ("", True, 1)
    best = known.units.ranked[0]
    assert (best.layer, best.channel) == (known.layers[0].name, CARRIER)
    assert best.backdoor > 0.9
    assert best.interval[0] <= best.value <= best.interval[1]


def test_every_channel_has_a_value_and_they_add_up(known):
    assert known.estimate is not None
    assert len(known.units.ranked) == known.units.total == sum(layer.channels for layer in known.layers)
    assert len({(u.layer, u.channel) for u in known.units.ranked}) == known.units.total
    total = sum(u.value for u in known.units.ranked)
    assert total == pytest.approx(known.estimate.full_value - known.estimate.end_value, abs=1e-9)


def test_the_record_is_enough_to_get_the_same_values_again(files, known):
    kept = {
        k: known.settings[k] for k in ("permutations", "epsilon", "discard_threshold", "players", "value", "estimator")
    }
    again = of(files, run=replace(RUN, seed=known.seed, **kept))
    assert again.units == known.units
    assert again.estimate == known.estimate
    assert of(files, run=replace(RUN, seed=known.seed + 1)).units != known.units


def test_only_the_channels_of_named_layers_play(files):
    last = "/4/shortcut/shortcut.0/Conv"

    def of_sample(*layers: str) -> ValuesRecord:
        return values(
            sample_path("backdoored.onnx"), sample_path("pictures"), known_trigger=[sample_path("trigger.npz")],
            layers=layers, run=replace(RUN, permutations=2, max_evaluations=100),
        )  # fmt: skip

    found = of_sample(last)
    assert {u.layer for u in found.units.ranked} == {last}
    assert len(found.units.ranked) == next(layer.channels for layer in found.layers if layer.name == last) < 304
    assert found.played == (last,)
    with pytest.raises(DataError, match="no layer 'nobody'"):
        of_sample(last, "nobody")


def test_a_shortlist_has_no_more_players_than_asked_for(files, known):
    found = of(files, run=replace(RUN, players="shortlist"))
    assert 0 < len(found.units.ranked) <= 24
    assert found.units.ranked[0].channel == CARRIER


def test_the_published_game_is_of_the_success_rate_alone(files):
    found = of(files, run=RunOptions(threads=1, device="cpu", recipe="shappruning", **RECIPES["shappruning"]))
    assert found.estimate is not None
    assert (found.estimate.value, found.estimate.clean_weight, found.estimate.full_value) == ("asr", 0, 1)
    assert found.settings["recipe"] == "shappruning"
    assert found.units.ranked[0].channel == CARRIER


def test_a_search_finds_the_triggers_where_none_is_given(files):
    found = of(files, known=False)
    assert (found.verdict, found.known_trigger, found.reason) == ("fail", False, "")
    assert found.triggers >= 1
    assert found.attacks
    assert found.units.ranked[0].channel == CARRIER


@pytest.mark.parametrize("known", [True, False])
def test_nothing_named_has_no_values_and_says_why(files, known):
    found = of(files, "clean.onnx", known=known)
    assert found.verdict != "fail"
    assert (found.units.ranked, found.estimate) == ((), None)
    assert found.reason
