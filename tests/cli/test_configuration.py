"""Where a setting comes from: flag before environment before file before default, and never from a model's folder."""

import json
import time
import tomllib

import click
import pytest
from click.testing import CliRunner
from invocations import only_line, run
from record_samples import audit_record

from onnx_shapprune.cli import shapprune
from onnx_shapprune.cli.configuration import NOT_IN_FILES, inside, options
from onnx_shapprune.report.text import json_text


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder to stand in, apart from the model; writes its shapprune.toml."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def write(text: str, name: str = "shapprune.toml"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    write.folder = folder
    return write


@pytest.fixture
def seed(fake, tmp_path, model, pictures):
    """The seed that an audit of a model in another folder is run with."""
    place = tmp_path / "models"
    place.mkdir()
    moved = model.rename(place / "model.onnx")

    def used(*arguments: object, path=moved) -> int:
        result = run("audit", path, "--data", pictures, *arguments)
        assert result.exit_code == 1, result.stderr
        return fake.settings["run"].seed

    used.model = moved
    return used


def test_flag_before_environment_before_file_before_default(project, seed, monkeypatch):
    assert seed() == 0
    project("seed = 1\n")
    assert seed() == 1
    project("seed = 1\n[audit]\nseed = 2\n[verify]\nseed = 9\n")
    assert seed() == 2
    monkeypatch.setenv("SHAPPRUNE_SEED", "3")
    assert seed() == 3
    assert seed("--seed", 4) == 4


def test_a_wrong_value_says_which_variable_it_came_from(project, fake, model, pictures, monkeypatch):
    monkeypatch.setenv("SHAPPRUNE_CLEAN_BUDGET", "much")
    assert "'much' is no number" in (line := only_line(run("audit", model, "--data", pictures)))
    assert "(from SHAPPRUNE_CLEAN_BUDGET)" in line
    assert "SHAPPRUNE" not in only_line(run("audit", model, "--data", pictures, "--clean-budget", "more"))


def test_the_nearest_file_counts_and_pyproject_needs_its_table(project, seed, monkeypatch):
    project("[tool.shapprune]\nseed = 5\n", "pyproject.toml")
    below = project("[project]\nname = 'x'\n", "a/b/pyproject.toml").parent
    monkeypatch.chdir(below)
    assert seed() == 5
    project("seed = 6\n", "a/shapprune.toml")
    assert seed() == 6
    project("[tool.shapprune]\nseed = 7\n", "a/pyproject.toml")
    assert seed() == 6


def test_config_and_isolated(project, seed, tmp_path, monkeypatch):
    project("seed = 1\n")
    (tmp_path / "mine.toml").write_text("seed = 8\n")
    assert seed("--config", tmp_path / "mine.toml") == 8
    assert seed("--isolated") == 0
    monkeypatch.setenv("SHAPPRUNE_CONFIG", str(tmp_path / "mine.toml"))
    assert seed() == 8
    monkeypatch.setenv("SHAPPRUNE_ISOLATED", "0")
    assert seed() == 8
    monkeypatch.setenv("SHAPPRUNE_ISOLATED", "1")
    assert seed() == 0
    monkeypatch.setenv("SHAPPRUNE_ISOLATED", "perhaps")
    assert "perhaps" in only_line(run("rules"))


@pytest.mark.parametrize("options", [(), ("-q",)])
def test_what_was_read_is_said(project, seed, pictures, options):
    path = project("seed = 1\n[audit]\nrestarts = 2\n[verify]\nlayout = 'NCHW'\n")
    result = run("audit", seed.model, "--data", pictures, *options)
    assert f"note: settings from {path}: seed, restarts\n" in result.stderr
    assert "settings from" not in result.stdout
    path.write_text("[verify]\nseed = 1\n")
    assert "settings from" not in run("audit", seed.model, "--data", pictures, *options).stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("calibration", '"cal.json"'),
        ("allow-root", '"/"'),
        ("limit", '["depth=64"]'),
        ("in-process", "true"),
        ("timeout", '"off"'),
        ("memory-limit", '"off"'),
    ],
)
@pytest.mark.parametrize("file", ["shapprune.toml", "pyproject.toml"])
@pytest.mark.parametrize("place", ["", "[gate]"])
def test_what_protects_is_only_taken_from_a_file_that_was_named(
    project, fake, tmp_path, pictures, model, key, value, file, place
):
    """A pull request can put a file at the root, and a model far from it."""
    models = tmp_path / "models"
    models.mkdir()
    moved = model.rename(models / "model.onnx")
    head = "[tool.shapprune]" if file == "pyproject.toml" else ""
    table = place.replace("[", "[tool.shapprune.") if head and place else place
    path = project(f"{head}\n{table}\n{key} = {value}\n", file)
    for command in ("gate", "inspect", "batch"):
        extra = ["-o", tmp_path / "results"] if command == "batch" else []
        data = [] if command == "inspect" else ["--data", pictures]
        line = only_line(run(command, moved, *data, *extra))
        assert f"{key} is not taken from a file that was only found" in line
        assert str(path) in line
    assert not fake.calls
    audit = f"[audit]\n{key} = {value}\n"
    (tmp_path / "mine.toml").write_text(audit)
    run("audit", moved, "--data", pictures, "--config", tmp_path / "mine.toml")
    assert len(fake.calls) == 1
    if key == "limit":
        assert fake.settings["inputs"].limits.depth == 64


def test_a_model_called_like_a_report_is_still_a_model(project, seed, monkeypatch, pictures):
    folder = seed.model.parent
    (folder / "shapprune.toml").write_text("seed = 66\n")
    seed.model.rename(folder / "m.json")
    monkeypatch.chdir(folder)
    for command in (["audit", "m.json", "--data", pictures], ["verify", "m.json", "m.json", "--data", pictures],
                    ["inspect", "m.json"]):  # fmt: skip
        result = run(*command)
        assert "shapprune.toml is not read" in result.stderr
        assert "settings from" not in result.stderr


@pytest.mark.parametrize("key", ["a." * 400_000 + "a = 1", "[" + "a." * 400_000 + "a]", '"a".' * 150_000 + "a = 1"])
def test_a_key_of_very_many_parts_takes_no_time(project, seed, pictures, key):
    project(f"[tool.shapprune]\n{key}\n", "pyproject.toml")
    began = time.monotonic()
    line = only_line(run("audit", seed.model, "--data", pictures))
    assert "line 2 has a key of more than 100 parts" in line
    assert time.monotonic() - began < 5
    project(f'[tool.shapprune]\nseed = 3\n[tool.other]\ntext = "{"." * 5000}"\n', "pyproject.toml")
    assert seed() == 3


def test_a_models_folder_ships_no_settings(seed, monkeypatch, pictures):
    folder = seed.model.parent
    (folder / "shapprune.toml").write_text("seed = 66\n")
    (folder / "below").mkdir()
    for place in (folder, folder / "below"):
        monkeypatch.chdir(place)
        result = run("audit", seed.model, "--data", pictures)
        assert "shapprune.toml is not read" in result.stderr
        assert seed() == 0
        assert seed(path="model.onnx" if place == folder else "../model.onnx") == 0
    assert seed("--config", folder / "shapprune.toml") == 66


def test_any_model_of_a_command_counts(project, seed, monkeypatch):
    (seed.model.parent / "shapprune.toml").write_text("sed = 1\n")
    monkeypatch.chdir(seed.model.parent)
    report = seed.model.with_name("report.json")
    report.write_text(json_text(audit_record(verdict="pass", repair="not_tried")))
    for arguments in (
        ["inspect", "../elsewhere.onnx", "model.onnx"],
        ["verify", "../elsewhere.onnx", "model.onnx", "--data", "none"],
        ["calibrate", ".", "--data", "none", "-o", "c.json"],
        ["gate", "report.json", "--model", "model.onnx"],
    ):
        assert "is not read" in run(*arguments).stderr
    assert "unknown key sed" in only_line(run("gate", "report.json"))


def test_links_lead_into_the_models_folder_too(project, seed, monkeypatch):
    folder = seed.model.parent
    (folder / "shapprune.toml").write_text("seed = 66\n")
    (project.folder / "link.onnx").symlink_to(seed.model)
    monkeypatch.chdir(folder)
    assert seed(path=project.folder / "link.onnx") == 0
    monkeypatch.chdir(project.folder)
    project("seed = 1\n")
    assert seed(path="link.onnx") == 0


def test_a_folder_of_models_is_a_models_folder(tmp_path):
    assert inside(tmp_path, tmp_path)
    assert inside(tmp_path, tmp_path / "**" / "*.onnx")
    (tmp_path / "sub").mkdir()
    assert not inside(tmp_path, tmp_path / "sub" / "*.onnx")
    assert inside(tmp_path / "a", tmp_path)
    assert inside(tmp_path, tmp_path / "m.onnx")
    assert not inside(tmp_path, tmp_path / "a" / "m.onnx")


def test_values_arrive_as_from_the_command_line(project, seed, fake, tmp_path):
    (project.folder / "mine.json").write_text("")
    path = project(
        'mean = [0.1, 0.2, 0.3]\nstd = 0.5\ninput-range = [-1, 1]\nepsilon = "off"\nbudget = "30s"\nquiet = true\n'
        'calibration = "mine.json"\n[audit]\nchannel-order = "BGR"\n'
    )
    seed("--config", path)
    inputs, used = fake.settings["inputs"], fake.settings["run"]
    assert (inputs.mean, inputs.std, inputs.input_range) == ((0.1, 0.2, 0.3), (0.5,), (-1.0, 1.0))
    assert (inputs.channel_order, used.epsilon, used.max_seconds) == ("BGR", None, 30.0)
    assert used.calibration == project.folder / "mine.json"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sed = 1", "unknown key sed; did you mean seed?"),
        ("clean_budget = 0.1", "unknown key clean_budget; did you mean clean-budget?"),
        ("[audti]\nseed = 1", "no command [audti]; did you mean audit?"),
        ("[inspect]\nseed = 1", "unknown key inspect.seed"),
        ('seed = "x"', "seed: 'x' is not a valid integer"),
        ("seed = true", "seed must"),
        ("[verify]\nclean-budget = 7", "clean-budget: '7' is no number"),
        ('quiet = "yes"', "quiet must be true or false"),
        ('policy = "p.toml"', "policy is never read from a file; give --policy"),
        ("[gate]\nexit-zero = true", "gate.exit-zero is never read from a file"),
        ('data = "a\\u0000b"', "data: embedded null byte"),
        ("seed = ", "is no TOML"),
    ],
)
def test_slips_are_errors(project, fake, tmp_path, text, words):
    project(text)
    model = tmp_path / "elsewhere" / "m.onnx"
    assert words in only_line(run("audit", model, "--data", tmp_path))
    assert not fake.calls


def test_a_file_that_was_asked_for_must_be_there(project, tmp_path):
    assert "not found" in only_line(run("rules", "--config", tmp_path / "none.toml"))


def test_help_and_completion_need_no_good_file(project):
    project("sed = 1\n")
    assert run("audit", "--help").exit_code == 0
    result = CliRunner().invoke(
        shapprune, [], env={"_SHAPPRUNE_COMPLETE": "bash_complete", "COMP_WORDS": "shapprune gate --pol", "COMP_CWORD": "2"},
        prog_name="shapprune",
    )  # fmt: skip
    assert "plain,--policy" in result.stdout


def test_environment_names_are_those_of_the_flags():
    for name, command in shapprune.commands.items():
        for flag, option in options(command).items():
            if name not in ("schema", "docs"):
                assert option.envvar == f"SHAPPRUNE_{flag.upper().replace('-', '_')}"


def test_schema_config_lists_every_setting_and_is_toml_that_is_understood(project):
    text = run("schema", "config").stdout
    keys = [line[2:] for line in text.splitlines() if line.startswith("# ") and " = " in line and "..." not in line]
    content = tomllib.loads("\n".join(keys))
    every = {o for c in shapprune.commands.values() for o in options(c)} - NOT_IN_FILES
    assert every == {line[2:].split(" = ")[0] for line in text.splitlines() if line.startswith("# ") and " = " in line}
    assert run("rules", "--config", project(json_to_toml(content))).exit_code == 0


def json_to_toml(content: dict[str, object]) -> str:
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in content.items()) + "\n"


def test_every_command_with_options_takes_settings():
    for command in shapprune.commands.values():
        if command.name not in ("schema", "docs"):  # these have none
            assert {"config", "isolated"} <= options(command).keys()
    assert isinstance(shapprune, click.Group)
