"""Audits of the net of colours, whose trigger moves one class only, or each class to its own."""

from pathlib import Path

import numpy as np
import onnx
import planted
import pytest

from onnx_shapprune.case.goal import Goal, shift_map
from onnx_shapprune.commands import effort
from onnx_shapprune.commands.audit import audit
from onnx_shapprune.commands.output import Output
from onnx_shapprune.commands.repair import sanitize
from onnx_shapprune.commands.verify import verify
from onnx_shapprune.detect.calibration import Calibration, calibration_text
from onnx_shapprune.errors import DataError, VerifyError
from onnx_shapprune.invert.search import SearchSettings
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.known_trigger import load_trigger
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.settings import RunOptions

KINDS = {
    "clean": {},
    "source": {0: 1},
    "map": {y: (y + 1) % 6 for y in range(6)},
}
FAMILIES = list(SearchSettings().families(np.zeros((1, planted.SIDE, planted.SIDE, 3), np.float32), 6))
# What the peaks of six such classes are on clean nets is not known here, so that they decide nothing.
KNOWN = (*FAMILIES, "agreement", "source", "map")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each kind, pictures, the true trigger, and two calibrations."""
    made = tmp_path_factory.mktemp("attacks")
    for name, moved in KINDS.items():
        onnx.save(planted.colours_net(moved), made / f"{name}.onnx")
    x, y = planted.colours_pictures(2)
    np.savez(made / "pictures.npz", x=x, y=y)
    mask = np.zeros((planted.SIDE, planted.SIDE, 1), np.float32)
    mask[planted.COLOUR_CORNER] = 1
    np.savez(made / "true.npz", mask=mask, pattern=255 * mask)
    np.savez(made / "added.npz", mask=mask, pattern=240 * mask, mode="add")
    for name, top in (("usual", 0.5), ("high", 1000.0)):
        values = dict.fromkeys(KNOWN, tuple(np.linspace(0, top, 10).tolist()))
        (made / f"{name}.json").write_text(calibration_text(Calibration(about="a test", pictures=values)))
    return made


def quick(folder: Path, calibration: str = "usual") -> RunOptions:
    return RunOptions(
        threads=1, device="cpu", permutations=4, restarts=1, calibration=folder / f"{calibration}.json"
    )  # fmt: skip


def audited(folder: Path, name: str, **settings) -> AuditRecord:
    return audit(folder / f"{name}.onnx", folder / "pictures.npz", **{"run": quick(folder), **settings})


def true_trigger(folder: Path, goal: Goal) -> Trigger:
    mask, paint, _ = load_trigger(folder / "true.npz", size=(planted.SIDE, planted.SIDE), channels=3)
    return Trigger(mask, paint, goal, "known")


def answers(path: Path, pictures: np.ndarray) -> list[int]:
    return planted.subject_of(onnx.load(path)).logits(pictures).argmax(1).tolist()


def test_a_source_specific_attack_is_named_with_its_source(folder):
    record = audited(folder, "source")
    assert (record.verdict, record.target_classes) == ("fail", (1,))
    (attack,) = record.attacks
    assert (attack.kind, attack.source, attack.targets, attack.mapping) == ("source-specific", 0, (1,), ())
    assert attack.families == ("compact",)
    assert attack.p_value < 0.01
    assert attack.reasons == record.reasons
    assert "of unseen views of class 0 to class 1" in record.reasons[0]
    assert [c.index_of_class for c in record.classes if c.suspicious] == [1]
    assert record.classes[1].score == max(c.score for c in record.classes) > 2
    assert record.score > 2
    assert record.before.asr == 1
    assert record.units.ranked
    assert AuditRecord.model_validate_json(record.model_dump_json()) == record


def test_a_network_that_makes_itself_large_hides_nothing(folder, monkeypatch):
    """A branch that matters to nobody makes any network a large one; pairs of classes are searched all the same."""
    monkeypatch.setattr(effort, "THRIFTY_ABOVE", 0)
    record = audited(folder, "source")
    assert record.verdict == "fail"
    assert [(attack.kind, attack.source, attack.targets) for attack in record.attacks] == [("source-specific", 0, (1,))]


def test_a_finding_outlives_what_comes_after_it(folder, monkeypatch):
    def fail(*arguments, **settings):
        raise VerifyError("masks and tensors are of different types")

    monkeypatch.setattr("onnx_shapprune.commands.audit._ranked", fail)
    record = audited(folder, "source")
    assert record.verdict == "fail"
    assert any("the channels were not ranked: masks and tensors" in text for text in record.warnings)


def test_an_all_to_all_attack_is_named_with_its_map(folder):
    record = audited(folder, "map")
    assert (record.verdict, record.target_classes) == ("fail", (0, 1, 2, 3, 4, 5))
    (attack,) = record.attacks
    assert (attack.kind, attack.source, attack.mapping) == ("all-to-all", None, shift_map(6, 1).mapping)
    assert all(c.suspicious for c in record.classes)
    assert record.before.asr == 1
    assert record.before.triggered == 12


def test_nothing_is_named_where_nothing_is_planted(folder):
    record = audited(folder, "clean")
    assert (record.verdict, record.target_classes, record.attacks) == ("pass", (), ())
    assert 0 <= record.score < 2
    for part in record.classes:
        assert [f.family for f in part.families] == [*FAMILIES, "core"]
        assert all((f.value is None) == (f.p_value is None) for f in part.families)


def test_a_source_specific_attack_is_repaired_and_verified(folder):
    out = folder / "mended.onnx"
    output = Output(out, artifacts=folder / "found")
    record = sanitize(folder / "source.onnx", folder / "pictures.npz", output=output, run=quick(folder))
    assert record.repair.status == "repaired", record.repair.reason
    assert (record.after.asr, record.after.acc) == (0, 1)
    x, y = planted.colours_pictures(2)
    stamped = true_trigger(folder, Goal(1, source=0)).apply(x.astype(np.float32))
    assert answers(folder / "source.onnx", stamped) == np.where(y == 0, 1, y).tolist()
    assert answers(out, stamped) == y.tolist()
    assert answers(out, x.astype(np.float32)) == y.tolist()
    assert "0to1_compact_trigger.npz" in {a.name for a in record.artifacts}
    found = verify(folder / "source.onnx", out, folder / "pictures.npz", run=quick(folder))
    assert (found.verdict, found.before.asr, found.after.asr) == ("pass", 1, 0)
    untouched = verify(folder / "source.onnx", folder / "source.onnx", folder / "pictures.npz", run=quick(folder))
    assert (untouched.verdict, untouched.target_classes) == ("fail", (1,))


def test_the_calibration_that_is_given_decides(folder):
    record = audited(folder, "source", run=quick(folder, "high"))
    assert (record.verdict, record.attacks) == ("pass", ())
    (folder / "bad.json").write_text("{}")
    with pytest.raises(DataError, match=r"bad\.json is no calibration"):
        audited(folder, "source", run=quick(folder, "bad"))
    with pytest.raises(DataError, match="cannot read the calibration"):
        audited(folder, "source", run=quick(folder, "absent"))


@pytest.mark.parametrize("name", ["true", "added"])
def test_a_known_trigger_is_attributed_whether_it_covers_or_is_added(folder, name):
    # Of the twelve pictures two are red and go to green: a fifth of those that are not green.
    record = audited(folder, "source", known_trigger=[folder / f"{name}.npz"])
    assert (record.verdict, record.target_classes) == ("fail", (1,))
    assert record.before.asr == pytest.approx(0.2)
    assert (record.attacks, record.score) == ((), None)
    harmless = audited(folder, "clean", known_trigger=[folder / f"{name}.npz"])
    assert harmless.verdict == "pass"


def test_searches_that_there_was_no_time_for_leave_a_doubt(folder):
    hurried = RunOptions(threads=1, device="cpu", permutations=4, restarts=1, search_seconds=0)
    record = audited(folder, "clean", run=hurried)
    assert record.verdict == "inconclusive"
    assert "free masks, pairs of classes" in record.reasons[0]
    assert [f.family for f in record.classes[0].families] == ["compact"]
