"""shapprune fit: exit codes, what is printed, what is written."""

import json

import numpy as np
import pytest
from colours import colours, network
from invocations import only_line, run

from onnx_shapprune.pictures.preprocess import Preprocessing
from onnx_shapprune.record.fit import FitRecord
from onnx_shapprune.report.fit import fit_text


@pytest.fixture
def data(tmp_path):
    x, y = colours()
    np.savez(tmp_path / "labelled.npz", x=x, y=y)
    np.savez(tmp_path / "flat.npz", x=x)
    np.savez(tmp_path / "wrong.npz", x=x, y=(y + 4) % 9)
    model = network(Preprocessing(input_range=(0, 255)), metadata={"Image.NominalPixelRange": "NominalRange_0_255"})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return tmp_path


@pytest.mark.parametrize(
    ("pictures", "code", "word"),
    [("labelled", 0, "FITS  m.onnx"), ("wrong", 3, "NONE FITS  m.onnx"), ("flat", 3, "A GUESS  m.onnx")],
)
def test_exit_codes_and_headlines(data, pictures, code, word):
    result = run("fit", data / "m.onnx", "--data", data / f"{pictures}.npz", "--device", "cpu", "--threads", 1)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (code, word)
    assert "Image.NominalPixelRange  NominalRange_0_255" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_options_can_be_pasted(data):
    arguments = ("--data", data / "labelled.npz", "--device", "cpu", "--threads", 1)
    text = run("fit", data / "m.onnx", *arguments).stdout
    assert "  1: --input-range 0 255\n" in text
    line = run("fit", data / "m.onnx", *arguments, "-q").stdout
    assert line.startswith("FITS  9 of 9 with --input-range 0 255")
    assert line.count("\n") == 1
    printed = run("fit", data / "m.onnx", *arguments, "-f", "json", "-o", data / "fit.json")
    record = FitRecord.model_validate_json(printed.stdout)
    assert json.loads((data / "fit.json").read_text()) == json.loads(printed.stdout)
    assert record.best.options == "--input-range 0 255"
    assert record.command[:2] == ("shapprune", "fit")
    unsure = " ".join(fit_text(record.model_copy(update={"alike": (1,)})).split())
    assert unsure.startswith("2 FIT ALIKE m.onnx")
    assert "audit with each of them and go by the worst verdict" in unsure
    assert "worst verdict" not in text


def test_in_a_child_process_it_says_the_same(data, monkeypatch):
    monkeypatch.delenv("SHAPPRUNE_IN_PROCESS")
    arguments = ("--data", data / "labelled.npz", "--device", "cpu", "--threads", 1, "-q")
    apart = run("fit", data / "m.onnx", *arguments)
    assert (apart.exit_code, apart.stdout) == (0, run("fit", data / "m.onnx", *arguments, "--in-process").stdout)


def test_what_could_not_run_exits_with_2(data):
    assert "none gives none" in only_line(run("fit", data / "m.onnx", "--data", "none"))
    assert "not found" in only_line(run("fit", data / "no.onnx", "--data", data / "flat.npz"))
    same = run("fit", data / "m.onnx", "--data", data / "flat.npz", "-o", data / "m.onnx")
    assert "m.onnx" in only_line(same)
