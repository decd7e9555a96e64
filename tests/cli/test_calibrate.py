"""Learning from clean models what is usual, with the program as it is."""

from pathlib import Path

import numpy as np
import onnx
import planted
import pytest
from invocations import only_line, run

from onnx_shapprune.detect.calibration import Calibration, Domain, load_calibration
from onnx_shapprune.invert import relations
from onnx_shapprune.invert.search import SearchSettings
from onnx_shapprune.record.audit import AuditRecord

FAST = ("--threads", "1", "--device", "cpu", "--restarts", "1", "-q")


def clean_net(seed: int) -> onnx.ModelProto:
    """The net of bright rows without its trigger, and with some noise in its weights."""
    model, rng = planted.rows_net(), np.random.default_rng(seed)
    for tensor in model.graph.initializer[:2]:
        array = onnx.numpy_helper.to_array(tensor).copy()
        array += (0.01 * rng.normal(size=array.shape) * (array != 0)).astype(np.float32)
        array[6] = 0
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight clean models in a folder of their own, one of them twice, one that is not clean in another, and pictures."""
    made = tmp_path_factory.mktemp("calibrate")
    (made / "models").mkdir()
    (made / "models" / "notes.txt").write_text("no model")
    for seed, name in enumerate("abcdefgh"):
        onnx.save(clean_net(seed), made / "models" / f"{name}.onnx")
    (made / "models" / "z.onnx").write_bytes((made / "models" / "a.onnx").read_bytes())
    x, y = planted.rows_pictures(2)
    np.savez(made / "pictures.npz", x=x, y=y)
    np.savez(made / "wrong.npz", x=x, y=(y + 1) % 6)
    return made


@pytest.fixture(scope="module")
def made(folder) -> Calibration:
    out = folder / "mine.json"
    result = run(
        "calibrate", folder / "models", "--data", folder / "pictures.npz", "-o", out, "--seeds", "2", *FAST[:-1]
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    made = load_calibration(out)
    assert result.stdout == f"8 models, 2 seeds each, with pictures: {out} (sha256 {made.digest})\n"
    assert "audits of clean models" in result.stderr
    assert "note: z.onnx holds the same model as another file and is left out" in result.stderr
    assert "not clean" not in result.stderr
    return made


def test_every_model_gives_one_value_to_what_was_searched(made):
    assert "8 models, 2 seeds each, with pictures" in made.about
    assert len(made.pictures["compact"]) == len(made.pictures["map"]) == 8, "seeds are no further models"
    values = np.array(list(zip(*made.pictures.values(), strict=True)))
    assert len(np.unique(values, axis=0)) == 8, "models differ from each other"
    assert values.max() < 100
    assert made.synthesised == load_calibration(None).of(6, 12).synthesised, "of models with as few classes"
    assert made.few is None
    assert made.domain == Domain(classes=(6, 6), pixels=(planted.WIDE, planted.WIDE))


def test_a_family_that_finds_nothing_on_clean_models_has_zeros_and_not_no_values(made):
    # With none, nothing that it finds on another model would ever be unusual.
    searched = SearchSettings().families(np.zeros((1, planted.WIDE, planted.WIDE, 1), np.float32), 6)
    assert {name: len(made.pictures.get(name, ())) for name in searched} == dict.fromkeys(searched, 8)


def test_a_model_that_the_packaged_calibration_names_is_told(folder, monkeypatch, tmp_path):
    (tmp_path / "models").mkdir()
    for name in "bcdefgh":
        (tmp_path / "models" / f"{name}.onnx").write_bytes((folder / "models" / f"{name}.onnx").read_bytes())
    onnx.save(planted.rows_net(), tmp_path / "models" / "bad.onnx")
    monkeypatch.setattr(Calibration, "outside", lambda *model, **first: ())
    monkeypatch.setattr(relations, "SPREAD", ())  # where a class is a bright row, a warp by one row is a map by nature
    result = run(
        "calibrate", tmp_path / "models", "--data", folder / "pictures.npz", "-o", tmp_path / "c.json", "--seeds", "1", *FAST
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("warning: by the packaged calibration this model is not clean: bad.onnx: ") == 1
    assert result.stderr.count("warning") == 1


def test_an_audit_takes_the_calibration(folder, made):
    assert made.pictures["compact"] != load_calibration(None).pictures["compact"]
    run(
        "audit", folder / "models" / "a.onnx", "--data", folder / "pictures.npz", "-o", folder / "report.json",
        "--calibration", folder / "mine.json", *FAST,
    )  # fmt: skip
    record = AuditRecord.model_validate_json((folder / "report.json").read_bytes())
    assert record.calibration == made.about
    assert record.calibration_sha256 == made.digest
    # Clean models reached as much: the audit is one of those that the calibration was made of.
    assert min(claim.p_value for claim in record.claims) > 1 / 9 - 1e-9


def test_too_few_models_or_none_are_refused(folder, tmp_path):
    few = ("--data", folder / "pictures.npz", "-o", tmp_path / "c.json", *FAST)
    (tmp_path / "one").mkdir()
    for name in ("x", "y"):
        onnx.save(clean_net(0), tmp_path / "one" / f"{name}.onnx")
    line = only_line(run("calibrate", tmp_path / "one", "--seeds", "8", *few))
    assert "1 different models are too few: at least 8" in line
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent", folder / "pictures.npz"):
        assert "no folder with .onnx files" in only_line(run("calibrate", path, *few))
    assert not (tmp_path / "c.json").exists()


def test_a_model_that_cannot_be_audited_is_named(folder, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "broken.onnx").write_bytes(b"no model")
    line = only_line(
        run(
            "calibrate", tmp_path / "models", "--data", folder / "pictures.npz", "-o", tmp_path / "c.json",
            "--seeds", "8", *FAST,
        )
    )  # fmt: skip
    assert line.startswith("error: broken.onnx: ")
    assert not (tmp_path / "c.json").exists()


def test_a_model_that_an_audit_calls_inconclusive_teaches_nothing(folder, tmp_path):
    # With wrong labels no clean picture is any distance away from its neighbour class, and values have no bound.
    line = only_line(
        run("calibrate", folder / "models", "--data", folder / "wrong.npz", "-o", tmp_path / "c.json", "--seeds", "4", *FAST)
    )  # fmt: skip
    assert line.startswith("error: a.onnx: ")
    assert not (tmp_path / "c.json").exists()


def test_the_calibration_must_not_replace_an_input(folder):
    before = (folder / "pictures.npz").read_bytes()
    for target in ("pictures.npz", "models/a.onnx"):
        line = only_line(
            run("calibrate", folder / "models", "--data", folder / "pictures.npz", "-o", folder / target, *FAST)
        )
        assert "same file as input" in line
    assert (folder / "pictures.npz").read_bytes() == before
