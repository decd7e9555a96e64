"""shapprune values, and --recipe: what is typed arrives, what was found is written, the exit code says whether."""

import csv
import json
from pathlib import Path

import pytest
from invocations import only_line, run
from record_samples import values_record

from onnx_shapprune.cli import exits
from onnx_shapprune.commands import values as command
from onnx_shapprune.record.audit import UnitsPart
from onnx_shapprune.record.values import ValuesRecord
from onnx_shapprune.settings import RECIPES, RunOptions


@pytest.fixture
def valued(monkeypatch):
    """What the function behind the command was called with; it gives `record`."""
    taken: dict[str, object] = {"record": values_record()}

    def values(*arguments, progress=None, **settings):
        taken.update(arguments=arguments, **settings)
        return taken["record"]

    monkeypatch.setattr(command, "values", values)
    return taken


def test_what_is_typed_arrives(valued, model, pictures):
    result = run(
        "values", model, "--data", pictures, "--known-trigger", "a.png", "b.png", "--layers", "conv1", "--layers",
        "conv2", "--seed", "4", "--epsilon", "off",
    )  # fmt: skip
    assert result.exit_code == exits.PASS, result.output
    assert valued["arguments"] == (model, pictures)
    assert valued["known_trigger"] == (Path("a.png"), Path("b.png"))
    assert valued["layers"] == ("conv1", "conv2")
    assert valued["run"] == RunOptions(seed=4, epsilon=None, players="all")
    run("values", model, "--data", pictures, "--players", "shortlist")
    assert valued["run"] == RunOptions()
    assert (valued["known_trigger"], valued["layers"]) == ((), ())


def test_the_files_that_were_asked_for_are_written(valued, model, pictures, tmp_path):
    paths = {name: tmp_path / f"v.{name}" for name in ("json", "csv", "svg")}
    result = run(
        "values", model, "--data", pictures, "-o", paths["json"], "--csv", paths["csv"], "--plot", paths["svg"]
    )
    assert result.exit_code == exits.PASS
    assert result.stdout.startswith("VALUES  ")
    assert ValuesRecord.model_validate_json(paths["json"].read_text()) == valued["record"]
    assert len(list(csv.reader(paths["csv"].open()))) == 134
    assert paths["svg"].read_text().startswith("<svg ")
    shown = run("values", model, "--data", pictures, "-f", "json").stdout
    assert json.loads(shown) == json.loads(paths["json"].read_text())
    assert run("values", model, "--data", pictures, "-q").stdout.count("\n") == 1


def test_nothing_named_is_one_line_and_no_table(valued, model, pictures, tmp_path):
    nothing = UnitsPart(total=133, layers=2)
    valued["record"] = values_record(reason="no class stands out", units=nothing, estimate=None)
    result = run("values", model, "--data", pictures, "-o", tmp_path / "v.json", "--csv", tmp_path / "v.csv")
    assert result.exit_code == exits.INCONCLUSIVE
    assert result.stdout == "NO VALUES  no class stands out\n"
    assert (tmp_path / "v.json").exists()
    assert not (tmp_path / "v.csv").exists()


def test_files_that_cannot_be_written_are_refused_before_any_work(valued, model, pictures, tmp_path):
    for option in ("-o", "--csv", "--plot"):
        assert "same file as input" in only_line(run("values", model, "--data", pictures, option, model))
        assert "does not exist" in only_line(run("values", model, "--data", pictures, option, tmp_path / "a" / "b"))
    assert "choose two" in only_line(run("values", model, "--data", pictures, "--csv", "x.csv", "--plot", "x.csv"))
    assert "arguments" not in valued


def asked(fake, model, pictures, *arguments) -> RunOptions:
    run("sanitize", model, "--data", pictures, "--dry-run", *arguments)
    return fake.settings["run"]


def test_a_recipe_is_other_defaults(fake, model, pictures):
    assert asked(fake, model, pictures) == RunOptions()
    published = RunOptions(recipe="shappruning", **RECIPES["shappruning"])
    assert asked(fake, model, pictures, "--recipe", "shappruning") == published
    assert published != RunOptions(recipe="shappruning")
    mixed = asked(fake, model, pictures, "--epsilon", "off", "--max-units", "0.02", "--recipe", "shappruning")
    assert (mixed.epsilon, mixed.max_units, mixed.players) == (None, 0.02, "all")


def test_the_environment_and_a_file_come_before_a_recipe(fake, model, pictures, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    place = tmp_path / "models"
    place.mkdir()
    model = model.rename(place / "model.onnx")
    (folder / "shapprune.toml").write_text('recipe = "shappruning"\ncandidates = 5\n')
    monkeypatch.setenv("SHAPPRUNE_VALUE", "margin")
    found = asked(fake, model, pictures)
    assert (found.recipe, found.candidates, found.value, found.players) == ("shappruning", 5, "margin", "all")


def test_a_recipe_names_options_that_there_are(fake, model, pictures):
    text = " ".join(run("sanitize", "--help").stdout.split())
    for name, value in RECIPES["shappruning"].items():
        assert f"--{name.replace('_', '-')} {value}" in text
