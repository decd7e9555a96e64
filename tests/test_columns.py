"""Columns of the calibration beside whole audits land in the parts that speak of their networks, and nowhere else."""

import pytest

from onnx_shapprune.detect.calibration import Calibration, load_calibration
from onnx_shapprune.detect.statistics import FIRST, MAP
from onnx_shapprune.detect.thresholds import FEWEST_MODELS
from tests.benchmarks.columns import calibrated

KNOWN = load_calibration(None)


def rows(value: float, **changed: object) -> list[dict[str, object]]:
    row = {
        "kind": "clean",
        "acc": 0.9,
        "free": False,
        "classes": 10,
        "edge": 32,
        "shown": 10,
        FIRST: value,
        MAP: value / 10,
    }
    return [{"file": f"{value}_{k}.onnx", **row, **changed} for k in range(FEWEST_MODELS)]


def made(*found: list[dict[str, object]]) -> Calibration:
    return Calibration.model_validate_json(calibrated([r for some in found for r in some], (FIRST, MAP), ""))


def test_each_part_gets_its_own_networks():
    new = made(
        rows(1.0), rows(2.0, free=True), rows(3.0, edge=128), rows(4.0, classes=3, shown=3), rows(5.0, classes=3),
        rows(6.0, classes=3, edge=96), rows(7.0, classes=3, edge=160),
    )  # fmt: skip
    assert new.pictures[FIRST] == (1.0,) * FEWEST_MODELS
    assert new.synthesised[MAP] == (0.2,) * FEWEST_MODELS
    assert set(new.large.pictures[FIRST]) == {3.0}
    assert set(new.few.pictures[FIRST]) == {4.0}
    assert set(new.few.more.pictures[FIRST]) == {5.0}
    assert set(new.few.large.pictures[FIRST]) == {6.0, 7.0}
    assert new.few.large.domain is not None
    assert new.few.large.domain.begun == (96, 160), "nothing is named there, and first rounds are known"
    assert new.few.large.domain.pixels == KNOWN.few.large.domain.pixels
    assert new.pictures["compact"] == KNOWN.pictures["compact"]


@pytest.mark.parametrize(
    "none", [rows(1.0, kind="all-to-one"), rows(1.0, acc=0.5), rows(1.0)[1:], rows(1.0, free=True, shown=3)]
)
def test_backdoored_poor_and_too_few_networks_change_nothing(none):
    assert made(none) == KNOWN
