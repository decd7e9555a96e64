"""Blocks of walks, merged, are the estimate of one process bit for bit, however they are divided and wherever walks end."""

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from closed_form_games import Counted, random_game
from hypothesis import given
from hypothesis import strategies as st

from onnx_shapprune.errors import DataError, EngineError
from onnx_shapprune.shapley.antithetic import AntitheticSettings
from onnx_shapprune.shapley.blocks import Settings, merge, play_block, split, walker, walks_of
from onnx_shapprune.shapley.estimate import Estimate
from onnx_shapprune.shapley.permutation import PermutationSettings

PLAYERS, SEED = 7, 5
GAME, STRENGTH = random_game(PLAYERS, 0), random_game(PLAYERS, 1)
PLAIN = PermutationSettings(permutations=9, lockstep=4)
CUT = PermutationSettings(permutations=9, lockstep=4, discard_threshold=-0.1, patience=2)
PAIRS = AntitheticSettings(pairs=5, lockstep=4)
CUT_PAIRS = AntitheticSettings(pairs=5, lockstep=4, discard_threshold=-0.1, patience=2)
ALL = [PLAIN, CUT, PAIRS, CUT_PAIRS]


def one_process(settings: Settings, evaluations: int | None = None) -> Estimate:
    rng = np.random.default_rng(SEED)
    return walker(GAME, PLAYERS, settings=settings, rng=rng, gauge=STRENGTH).run(evaluations=evaluations)


def play(settings: Settings, mine: range) -> list[np.ndarray]:
    return play_block(GAME, PLAYERS, mine, settings=settings, seed=SEED, gauge=STRENGTH)


def bits(estimate: Estimate) -> dict[str, object]:
    found = {f.name: getattr(estimate, f.name) for f in fields(estimate)}
    return {name: v.tobytes() if isinstance(v, np.ndarray) else v for name, v in found.items()}


@given(st.sampled_from(ALL), st.sets(st.integers(1, 8)), st.none() | st.integers(1, 60), st.randoms())
def test_any_division_gives_the_estimate_of_one_process(settings, cuts, evaluations, random):
    ends = [0, *sorted(cuts), walks_of(settings)]
    blocks = [range(a, b) for a, b in pairwise(ends)]
    random.shuffle(blocks)
    played = {mine.start: play(settings, mine) for mine in blocks}
    paths = [path for start in sorted(played) for path in played[start]]
    merged = merge(paths, PLAYERS, settings=settings, seed=SEED, evaluations=evaluations)
    assert bits(merged) == bits(one_process(settings, evaluations))


def test_the_threshold_cuts_walks_of_these_games():
    assert 0 < one_process(CUT).discarded_walks < 9
    assert 0 < one_process(CUT_PAIRS).discarded_walks < 10


def test_a_block_asks_for_what_its_own_walks_need():
    game = Counted(GAME)
    play_block(game, PLAYERS, range(2, 5), settings=PLAIN, seed=SEED)
    assert len(game.rows) == len(set(game.rows)) <= 3 * PLAYERS + 1


@pytest.mark.parametrize(("walks", "blocks"), [(12, 1), (12, 5), (12, 12), (3, 8)])
def test_blocks_share_all_walks(walks, blocks):
    parts = split(walks, blocks)
    assert [number for part in parts for number in part] == list(range(walks))
    assert len(parts) == min(walks, blocks)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_what_does_not_fit_together_is_no_estimate():
    paths = play(PLAIN, range(9))
    for wrong, words in (
        (paths[:-1], "8 walks came back of 9"),
        ([*paths[:-1], paths[-1][:3]], "too early"),
        ([*paths[:-1], np.nextafter(paths[-1], 2)], "differ in the value"),
    ):
        with pytest.raises(EngineError, match=words):
            merge(wrong, PLAYERS, settings=PLAIN, seed=SEED)


def test_greedy_walks_are_refused():
    with pytest.raises(DataError, match="set epsilon to None"):
        play(PermutationSettings(permutations=9, epsilon=0.3), range(3))
