"""The dual game on scripted logits, by hand."""

import numpy as np
import pytest

from onnx_shapprune.game import value
from onnx_shapprune.game.value import DualGame, Rows

# Rows: two triggered (target 1), two clean (labels 0 and 2); margins with all on: 4, 2 and 10, -1.
FULL = np.array([[0, 4, 0], [1, 3, 0], [10, 0, 0], [0, 1, 0]], np.float32)
ROWS = Rows(np.array([1, 1]), np.array([0, 2]), np.array([10, -1], np.float32))


class Scripted:
    """A replay of two players: `table` maps a coalition to the margins of the four rows."""

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
                for r, (own, margin) in enumerate(zip((1, 1, 0, 2), self.table[tuple(row.tolist())], strict=True)):
                    out[k, r, own] = margin
        return out


def game(**kwargs) -> tuple[DualGame, Scripted]:
    replay = Scripted({(True, False): (2, -4, 3, 9), (False, True): (8, 1, 5.9, 0), (False, False): (-9, -9, -9, -9)})
    return DualGame(replay, ROWS, **{"clean_weight": 2.0, **kwargs}), replay


ALL = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)


def test_parts_by_hand():
    dual, _ = game()
    parts = dual.components(ALL)
    low, safe = value.LOWEST, value.SAFE_SHARE
    backdoor = [1, (2 / 4 + low) / 2, (1 + 1 / 2) / 2, low]
    # The second clean row has no positive margin to keep: it does not count.
    clean = [1, 3 / (safe * 10), min(1, 5.9 / (safe * 10)), 0]
    np.testing.assert_allclose(parts, np.stack([backdoor, clean], axis=1), atol=1e-6)
    np.testing.assert_allclose(dual(ALL), np.array(backdoor) - 2 * np.array(clean), atol=1e-6)
    np.testing.assert_allclose(dual.strength(ALL), backdoor, atol=1e-6)


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
    replay = Scripted({(True, False): (1, 1, 1, 1)})
    nothing = Rows(np.array([2, 2]), np.array([0, 2]), np.array([0, -1], np.float32))
    assert DualGame(replay, nothing, clean_weight=1.0).components(ALL[:2]).tolist() == [[0, 0], [0, 0]]


def test_clean_margins_are_those_given_and_not_those_of_the_replay():
    # After a few rounds the replay's own margins have shrunk; the damage is measured against the unpruned model.
    rows = Rows(np.array([1, 1]), np.array([0, 2]), np.array([20, 20], np.float32))
    replay = Scripted({(True, False): (4, 2, 6, 3)})
    found = DualGame(replay, rows, clean_weight=1.0).components(ALL[1:2])
    assert found.tolist() == [[1, pytest.approx((6 + 3) / 2 / (value.SAFE_SHARE * 20))]]


def test_no_coalition_gives_no_rows():
    assert game()[0].components(np.zeros((0, 2), bool)).shape == (0, 2)
