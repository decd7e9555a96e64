"""The dual game on scripted logits, by hand."""

import numpy as np
import pytest

from onnx_shapprune.game.value import PULL_LEFT, DualGame, Rows, backdoor_weights, distortion

# Rows: two triggered (target 1, margins 4 and 2 with all on, -4 and -8 without the trigger), two clean.
FULL = np.array([[0, 4, 0], [1, 3, 0], [9, 0, 0], [0, 3, 0]], np.float32)
NATURAL = np.array([-4, -8], np.float32)
EVEN = np.array([0.5, 0.5])
ROWS = Rows(np.array([1, 1]), NATURAL, FULL[2:], EVEN)


class Scripted:
    """A replay of two players: `table` maps a coalition to two triggered margins and the peaks of two clean rows."""

    full = FULL

    def __init__(self, table: dict[tuple[bool, bool], tuple[float, float, float, float]]) -> None:
        self.table = table
        self.asked: list[tuple[bool, ...]] = []

    def __call__(self, coalitions):
        self.asked += [tuple(map(bool, row)) for row in coalitions]
        out = np.zeros((len(coalitions), 4, 3), np.float32)
        for k, row in enumerate(coalitions):
            if row.all():
                out[k] = FULL
            else:
                for r, (own, margin) in enumerate(zip((1, 1, 0, 1), self.table[tuple(row.tolist())], strict=True)):
                    out[k, r, own] = margin
        return out


def game(**kwargs) -> tuple[DualGame, Scripted]:
    replay = Scripted({(True, False): (2, -4, 9, 3), (False, True): (8, 1, 6, 3), (False, False): (-9, -9, -9, -9)})
    return DualGame(replay, ROWS, **{"clean_weight": 2.0, **kwargs}), replay


ALL = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)


def test_parts_by_hand():
    dual, _ = game()
    parts = dual.components(ALL)
    assert PULL_LEFT == 0.25, "goals are then margins of -3 and -6, 7 and 8 below the full ones"
    backdoor = [1, (5 / 7 + 2 / 8) / 2, (1 + 7 / 8) / 2, 0]
    # Peaks p on zeros have a centred square of p * p * 2 / 3: of 9 and 3, one moves by 3. Worse than nothing is 0.
    clean = [1, 1, 1 - 3**2 / (9**2 + 3**2), 0]
    np.testing.assert_allclose(parts, np.stack([backdoor, clean], axis=1), atol=1e-6)
    np.testing.assert_allclose(dual(ALL), np.array(backdoor) - 2 * np.array(clean), atol=1e-6)
    np.testing.assert_allclose(dual.strength(ALL), backdoor, atol=1e-6)


def test_values_of_the_backdoor_alone_by_hand():
    # Triggered rows have margins 4 and 2 with all on, then 2 and -4, 8 and 1, -9 and -9; the clean part stays out.
    played = {name: game(value=name)[0] for name in ("asr", "probability", "margin")}
    np.testing.assert_allclose(played["asr"](ALL), [1, 0.5, 1, 0])
    np.testing.assert_allclose(played["margin"](ALL), [1, -1 / 3, 4.5 / 3, -3], atol=1e-6)
    # Logits (0, m, 0), and (1, 3, 0) for the second row with all on.
    chance = [np.exp(m) / (np.exp(m) + 2) for m in (4, 2, 8, -9, -4, 1, -9)]
    first = (chance[0] + np.exp(3) / (np.exp(1) + np.exp(3) + 1)) / 2
    others = [(chance[1] + chance[4]) / 2, (chance[2] + chance[5]) / 2, chance[3]]
    np.testing.assert_allclose(played["probability"](ALL), [first, *others], rtol=1e-5)
    for simple in played.values():
        np.testing.assert_allclose(simple.components(ALL)[:, 1], game()[0].components(ALL)[:, 1])
        np.testing.assert_array_equal(simple(ALL), simple.strength(ALL))


def test_full_coalition_is_worth_one_minus_the_clean_weight():
    assert game(clean_weight=4.0)[0](ALL[:1]) == pytest.approx([-3])
    assert game(clean_weight=0.0)[0](ALL[:1]) == pytest.approx([1])


def test_every_coalition_is_asked_for_once():
    dual, replay = game()
    dual(ALL[[1, 1, 2]])
    dual.strength(ALL[[2, 1]])
    dual.components(ALL)
    assert sorted(replay.asked) == sorted(set(replay.asked))
    assert dual.evaluations == 4
    assert dual.components(ALL[[2, 0]]).tolist() == dual.components(ALL)[[2, 0]].tolist()


def test_no_row_with_a_margin_counts_as_nothing():
    replay = Scripted({(True, False): (1, 1, 9, 3)})
    nothing = Rows(np.array([2, 2]), np.array([1, 2], np.float32), FULL[2:], EVEN)
    assert DualGame(replay, nothing, clean_weight=1.0).components(ALL[:2]).tolist() == [[0, 1], [0, 1]]


def test_clean_logits_are_those_given_and_not_those_of_the_replay():
    # After a few rounds the replay's own logits have moved; the damage is measured against the unpruned model.
    rows = Rows(np.array([1, 1]), NATURAL, 2 * FULL[2:], EVEN)
    replay = Scripted({(True, False): (4, 2, 9, 3)})
    found = DualGame(replay, rows, clean_weight=1.0).components(ALL[:2])
    np.testing.assert_allclose(found, [[1, 3 / 4], [1, 3 / 4]], atol=1e-6)


def test_rows_near_their_goal_weigh_less_and_beyond_it_nothing():
    full = np.array([4.0, -5.0, -6.5, -12.0], np.float32)
    goal, weights = backdoor_weights(full, np.full(4, -8, np.float32))
    np.testing.assert_allclose(goal, [-6, -6, -6.5, -12])
    # Above the goal by 10 and 1: the first counts for all it has, the second for 1 / 6 of a row.
    np.testing.assert_allclose(weights * (full - goal), np.array([1, 1 / 6, 0, 0]) / (1 + 1 / 6))


def test_a_class_that_pictures_are_naturally_in_has_its_goal_at_the_boundary():
    goal, weights = backdoor_weights(np.array([3.0], np.float32), np.array([2.0], np.float32))
    assert goal.tolist() == [0]
    assert weights.tolist() == [1 / 3]


def test_distortion_is_a_share_and_ignores_a_shift_of_all_logits():
    rng = np.random.default_rng(0)
    even = np.full(5, 0.2)
    z = rng.normal(size=(5, 4)).astype(np.float32)
    assert distortion(z + np.float32(7), z, even) == pytest.approx(0, abs=1e-5)
    assert distortion(z * np.float32(0.5), z, even) == pytest.approx(0.25, abs=1e-5)
    assert distortion(np.zeros_like(z), z, even) == pytest.approx(1, abs=1e-5)
    assert distortion(z, np.ones_like(z), even) == 0, "a model that says nothing cannot be distorted"
    half = z.copy()
    half[:2] /= 2
    assert distortion(half, z, np.array([0.5, 0.5, 0, 0, 0])) == pytest.approx(0.25, abs=1e-5)
    assert distortion(half, z, np.array([0, 0, 0.5, 0.5, 0])) == 0, "rows without a weight do not count"


def test_no_coalition_gives_no_rows():
    assert game()[0].components(np.zeros((0, 2), bool)).shape == (0, 2)
