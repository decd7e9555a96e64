"""The table of defences: lines of several draws, defences that need no pictures, and a plot of them."""

from pathlib import Path

import pytest

from tests.benchmarks.peers import METHODS, PICTURELESS, key, overall, plot, summary

BEFORE = {"file": "net.onnx", "method": "none", "seconds": 0.0, "wall": 0.0, "said": ""}
ROWS = [
    {**BEFORE, "rates": {"acc": 0.9, "asr": 1.0, "racc": 0.0}},  # an old line: a picture a class, seed 0
    {**BEFORE, "method": "CLP", "seed": 0, "shown": 1, "rates": {"acc": 0.8, "asr": 0.5, "racc": 0.4}},
    {**BEFORE, "method": "CLP", "seed": 1, "shown": 1, "rates": {"acc": 0.9, "asr": 0.3, "racc": 0.6}},
    {**BEFORE, "method": "NC", "seed": 0, "shown": 1, "rates": None, "said": "no outlier"},
]


def test_summary_means_several_draws_and_keeps_what_a_defence_said() -> None:
    table = summary(ROWS)
    assert "| net | 1 | CLP | 85.0 | 40.0 | 50.0 | 0.0 | 0.0 | 2 of 2 draws |" in table
    assert "| net | 1 | NC | - | - | - | 0.0 | 0.0 | no outlier |" in table
    assert key(ROWS[0]) == ("net.onnx", 1, 0, "none")


def test_overall_means_networks_and_counts_a_missing_file_as_nothing_done() -> None:
    other = [{**r, "file": "other.onnx"} for r in ROWS]
    other[1] = {**other[1], "rates": {"acc": 0.7, "asr": 0.1, "racc": 0.2}}
    later = [{**r, "seed": 1} for r in (ROWS[0], other[0])]
    table = overall([*ROWS, *other, *later]).splitlines()
    # CLP: the mean of two draws of the first network is 85 / 40 / 50, of the second 80 / 20 / 40; each then counts once.
    assert "| 1 | CLP | 2 | 4 | 0 | 7.5 | 30.0 | 45.0 | 57.5 (55 to 60) | 0 |" in table
    assert "| 1 | NC | 2 | 2 | 2 | 0.0 | 100.0 | 0.0 | 0.0 (0 to 0) | 0 |" in table


def test_only_defences_that_need_no_pictures_run_without() -> None:
    assert set(PICTURELESS) < set(METHODS)
    assert not {"ANP", "NC", "fine-tune, 0.01"} & set(PICTURELESS)


def test_plot_leaves_out_what_has_no_rates(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draws = [ROWS[0], {**ROWS[0], "seed": 1}, *ROWS[1:]]
    plot(draws, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 10_000
