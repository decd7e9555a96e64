"""Pictures that the model takes for the target by itself are no success of a trigger; and all work is counted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import planted
import pytest

from onnx_shapprune.case.subject import Subject
from onnx_shapprune.commands.audit import audit
from onnx_shapprune.commands.repair import sanitize
from onnx_shapprune.commands.verify import verify
from onnx_shapprune.prune import round as rounds
from onnx_shapprune.settings import RunOptions

QUICK = RunOptions(threads=1, device="cpu", permutations=4, restarts=1, calibration=planted.calibration())
PRUNE = replace(QUICK, method="prune")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hand-made net with and without its backdoor; twelve pictures, two of which it takes for the target, class 5,
    whatever their labels say; the true trigger, and one that no channel sees.
    """
    made = tmp_path_factory.mktemp("baseline")
    onnx.save(planted.rows_net(), made / "planted.onnx")
    onnx.save(planted.without_backdoor(planted.rows_net()), made / "clean.onnx")
    x, y = planted.rows_pictures(2)
    np.savez(made / "right.npz", x=x, y=y)
    for k in (0, 1):
        x[k, k], x[k, 5] = 0, 255
    np.savez(made / "pictures.npz", x=x, y=y)
    np.savez(made / "few.npz", x=x[[0, 1, 2, 3, 5]], y=y[[0, 1, 2, 3, 5]])
    mask, pattern = planted.corner_trigger()
    np.savez(made / "true.npz", mask=mask, pattern=pattern)
    np.savez(made / "nothing.npz", mask=np.roll(mask, (-2, -9), (0, 1)), pattern=np.roll(pattern, (-2, -9), (0, 1)))
    return made


def test_a_trigger_that_does_nothing_is_no_backdoor_of_an_inaccurate_net(folder):
    record = audit(folder / "clean.onnx", folder / "pictures.npz", known_trigger=[folder / "nothing.npz"], run=QUICK)
    assert record.before.acc == pytest.approx(10 / 12)
    assert (record.verdict, record.before.asr) == ("pass", 0)


def test_the_true_trigger_is_rated_on_what_it_moves(folder):
    record = audit(folder / "planted.onnx", folder / "pictures.npz", known_trigger=[folder / "true.npz"], run=QUICK)
    assert (record.verdict, record.target_classes, record.before.asr) == ("fail", (5,), 1)
    assert record.before.triggered == 12 - 2 - 2, "neither those of class 5 nor those that are taken for it"
    assert all(t.clean_class != 5 for part in record.triggers for t in part.tried)


def test_a_rate_over_too_few_pictures_is_no_evidence(folder):
    record = audit(folder / "planted.onnx", folder / "few.npz", known_trigger=[folder / "true.npz"], run=QUICK)
    assert (record.before.asr, record.before.triggered) == (1, 2)
    assert record.verdict == "inconclusive"
    assert "only 2 of the pictures could show it" in record.reasons[0]


def test_the_same_plan_is_a_repair_whether_or_not_the_net_is_wrong_about_two_pictures(folder, tmp_path):
    records = [
        sanitize(folder / "planted.onnx", folder / name, output=tmp_path / f"{name}.onnx", run=PRUNE)
        for name in ("right.npz", "pictures.npz")
    ]
    for record in records:
        assert record.repair.status == "repaired", record.repair.reason
        assert (record.before.asr, record.after.asr) == (1, 0)
        assert 6 in [u.channel for u in record.units.off]
    assert [r.after.acc for r in records] == [1, pytest.approx(10 / 12)]
    compared = verify(folder / "planted.onnx", tmp_path / "pictures.npz.onnx", folder / "pictures.npz", run=QUICK)
    assert (compared.verdict, compared.before.asr, compared.after.asr) == ("pass", 1, 0)


def test_all_games_and_all_models_are_counted(folder, tmp_path, monkeypatch):
    games, subjects, pictures = [], [], []

    class Noted(rounds.DualGame):
        def __init__(self, *args, **settings):
            games.append(self)
            super().__init__(*args, **settings)

    def counting(run):
        def counted(self, shown, *rest, **settings):
            subjects.append(self)
            pictures.append(len(shown))
            return run(self, shown, *rest, **settings)

        return counted

    monkeypatch.setattr(rounds, "DualGame", Noted)
    for name in ("logits", "gradient"):
        monkeypatch.setattr(Subject, name, counting(getattr(Subject, name)))
    record = sanitize(folder / "planted.onnx", folder / "right.npz", output=tmp_path / "out.onnx", run=PRUNE)
    assert record.repair.status == "repaired"
    assert len(games) > 1
    assert record.evaluations == sum(g.evaluations for g in games) + 1, "and the one that proves the baked file"
    assert record.evaluations > record.estimate.evaluations
    assert len(set(subjects)) > 2, "the model, each file on the way, and the one that was written"
    by_games = record.gradient_pictures - sum(pictures)
    assert 0 < by_games < 0.01 * sum(pictures), "what the first-order effects of the units were taken on"


def test_an_option_for_units_means_what_it_says(folder):
    def limit(**options):
        record = audit(folder / "clean.onnx", folder / "right.npz", run=RunOptions(threads=1, restarts=1, **options))
        return record.settings["max_units"], record.settings["unit_limit"]

    assert limit() == ("auto", 24)
    assert limit(max_units=0.3) == (0.3, 2)
    assert [RunOptions(max_units=share).unit_limit(450) for share in (0, 0.01, 0.29, 1)] == [1, 4, 130, 450]
    assert [RunOptions().unit_limit(total) for total in (7, 448, 5000)] == [24, 24, 50]
