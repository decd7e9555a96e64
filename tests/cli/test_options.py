"""What is typed arrives in the pipeline, and what is printed goes to the right stream."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from invocations import only_line, run
from record_samples import audit_record

from onnx_shapprune.commands.output import Output
from onnx_shapprune.fleet.alone import alone
from onnx_shapprune.fleet.listing import Entry
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.settings import InputOptions, RunOptions


def test_defaults_are_the_pipelines_own(fake, model, pictures):
    run("audit", model, "--data", pictures)
    ((name, args, settings),) = fake.calls
    assert (name, args) == ("audit", (model, pictures))
    assert settings == {
        "inputs": InputOptions(), "run": RunOptions(), "known_trigger": (), "artifacts": None,
        "command": ("shapprune", "audit", str(model), "--data", str(pictures)),
    }  # fmt: skip


def test_every_option_arrives(fake, model, pictures, tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    run(
        "sanitize", model, "--data", pictures, "-o", tmp_path / "out.onnx", "--keep-partial",
        "--input-range", "-1", "1", "--mean", "-0.5,0.1,0",
        "--std", "2", "--layout", "NHWC", "--channel-order", "BGR", "--resize", "fit",
        "--classes", tmp_path / "labels.txt", "--per-class", "2", "--output-name", "y", "--seed", "7",
        "--device", "cpu", "--threads", "1", "--restarts", "2", "--clean-budget", "0.1", "--max-units", "0.5",
        "--clean-weight", "2", "--value", "asr", "--budget", "200", "--max-memory", "512",
        "--estimator", "leverage", "--permutations", "9", "--epsilon", "off",
        "--discard-threshold", "off", "--min-accuracy", "0.7", "--artifacts", tmp_path / "art",
        "--search-budget", "90", "--input-size", "32", "48", "--calibration", tmp_path / "mine.json",
        "--labels", tmp_path / "labels.csv", "--whole-search",
    )  # fmt: skip
    assert fake.settings["inputs"] == InputOptions(
        input_range=(-1.0, 1.0), mean=(-0.5, 0.1, 0.0), std=(2.0,), layout="NHWC", channel_order="BGR", resize="fit",
        class_names=tmp_path / "labels.txt", per_class=2, output="y", size=(32, 48), labels=tmp_path / "labels.csv",
    )  # fmt: skip
    assert fake.settings["run"] == RunOptions(
        seed=7, device="cpu", threads=1, restarts=2, clean_budget=0.1, max_units=0.5, clean_weight=2.0,
        estimator="leverage", permutations=9, epsilon=None, discard_threshold=None, min_accuracy=0.7, value="asr",
        max_evaluations=200, max_memory=512, search_seconds=90, calibration=tmp_path / "mine.json",
        whole_search=True,
    )  # fmt: skip
    assert fake.settings["output"] == Output(tmp_path / "out.onnx", keep_partial=True, artifacts=tmp_path / "art")


@pytest.mark.parametrize(
    "inputs",
    [
        InputOptions(),
        InputOptions(
            input_range=(-1.0, 1.0), mean=(-0.5, 0.1, 1 / 3), std=(0.229,), layout="NHWC", channel_order="BGR",
            resize="fit", class_names=Path("labels.txt"), labels=Path("my labels.csv"), per_class=2,
            unlabelled=Path("more"), output="y", size=(32, 48), limits=FileLimits(depth=7, generated_mib=9),
            allow_root=Path("cache"),
        ),
    ],
    ids=["defaults", "all"],
)  # fmt: skip
def test_what_a_batch_calls_one_of_its_models_with_is_understood(inputs, fake, model, pictures):
    """Every field: one that is added must be spelled too."""
    if inputs != InputOptions():
        usual = InputOptions()
        told = {f.name for f in fields(InputOptions) if getattr(inputs, f.name) != getattr(usual, f.name)}
        assert told == {f.name for f in fields(InputOptions)} - {"found"}
    run(*alone("audit", Entry("shown", model, pictures, inputs))[1:])
    run(*alone("audit", Entry("shown", model, None, inputs))[1:])
    (first, second) = fake.calls
    assert [first[1], second[1]] == [(model, pictures), (model, None)]
    got = first[2]["inputs"]
    assert replace(got, mean=inputs.mean) == replace(inputs, found=got.found)
    assert got.mean == pytest.approx(inputs.mean, rel=1e-8)


@pytest.mark.parametrize("command", ["audit", "sanitize", "verify"])
def test_pictures_may_be_none(fake, model, tmp_path, command):
    files = [model, model] if command == "verify" else [model]
    run(command, *files, "--data", "none", *(["-o", tmp_path / "out.onnx"] if command == "sanitize" else []))
    ((name, args, _),) = fake.calls
    assert (name, args) == (command, (*files, None))


def test_a_search_budget_is_seconds(fake, model, pictures):
    for wrong in ("-1", "nan", "inf", "long"):
        assert "search-budget" in only_line(run("audit", model, "--data", pictures, "--search-budget", wrong))
    assert not fake.calls


def test_a_budget_is_coalitions_or_seconds(fake, model, pictures):
    run("audit", model, "--data", pictures, "--budget", "1.5s")
    assert (fake.settings["run"].max_evaluations, fake.settings["run"].max_seconds) == (None, 1.5)
    for wrong in ("0", "-3", "1.5", "s", "0s", "nans", "infs", "many"):
        assert "budget" in only_line(run("audit", model, "--data", pictures, "--budget", wrong))


def test_dry_run_has_no_output(fake, model, pictures, tmp_path):
    run("sanitize", model, "--data", pictures, "--dry-run", "-o", tmp_path / "out.onnx")
    assert fake.settings["output"] == Output(None)


@pytest.mark.parametrize(
    "typed",
    [
        ["--known-trigger", "a.png", "b.png"],
        ["--known-trigger", "a.png", "--known-trigger", "b.png"],
    ],
)
@pytest.mark.parametrize("command", ["audit", "verify"])
def test_a_known_trigger_of_two_pictures(fake, model, pictures, command, typed):
    files = [model, model] if command == "verify" else [model]
    run(command, *typed, *files, "--data", pictures)
    assert fake.settings["known_trigger"] == (Path("a.png"), Path("b.png"))


def test_a_known_trigger_in_one_file(fake, model, pictures):
    run("audit", "--known-trigger", "t.npz", model, "--data", pictures)
    assert fake.settings["known_trigger"] == (Path("t.npz"),)


def test_stdout_holds_the_result_and_nothing_else(fake, model, pictures, tmp_path):
    fake.record = audit_record(repair="not_tried")
    result = run("audit", model, "--data", pictures, "-f", "json", "-o", tmp_path / "r.json")
    assert AuditRecord.model_validate_json(result.stdout) == fake.record
    assert json.loads((tmp_path / "r.json").read_text()) == json.loads(result.stdout)
    assert "class 3/10 norm=4.5" in result.stderr
    result = run("audit", model, "--data", pictures)
    assert result.stdout.startswith("FAIL  model.onnx")
    assert "class 3/10" not in result.stdout


def test_quiet(fake, model, pictures):
    fake.record = audit_record(repair="not_tried")
    result = run("audit", model, "--data", pictures, "-q")
    assert (result.stdout.count("\n"), result.stderr) == (1, "")
    assert result.stdout.startswith("FAIL")
    assert json.loads(run("audit", model, "--data", pictures, "-q", "-f", "json").stdout)["verdict"] == "fail"


@pytest.mark.parametrize(
    ("environment", "option", "coloured"),
    [
        ({}, [], False),
        ({"FORCE_COLOR": "1"}, [], True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, [], False),
        ({"NO_COLOR": "1"}, ["--color", "always"], True),
        ({"FORCE_COLOR": "1"}, ["--color", "never"], False),
    ],
)
def test_colour(fake, model, pictures, monkeypatch, environment, option, coloured):
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in run("audit", model, "--data", pictures, *option).stdout) is coloured


@pytest.fixture
def links(model, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "soft.onnx").symlink_to(model)
    (tmp_path / "sub" / "hard.onnx").hardlink_to(model)
    return tmp_path


@pytest.mark.parametrize("name", ["model.onnx", "sub/soft.onnx", "sub/hard.onnx", "sub/../model.onnx", "pictures.npz"])
def test_an_output_that_is_an_input_is_refused_before_any_work(fake, model, pictures, links, name):
    before = model.read_bytes()
    for args in (
        ["sanitize", model, "--data", pictures, "-o", links / name],
        ["sanitize", model, "--data", pictures, "-o", links / "new.onnx", "--report", links / name],
        ["audit", model, "--data", pictures, "-o", links / name],
        ["verify", model, model, "--data", pictures, "--report", links / name],
    ):
        assert "same file as input" in only_line(run(*args))
    assert model.read_bytes() == before
    assert not fake.calls


def test_outputs_that_cannot_be_written_are_refused_before_any_work(fake, model, pictures, tmp_path):
    for out, words in (
        (tmp_path / "none" / "r.json", "does not exist"),
        (tmp_path, "it is a folder"),
        (model / "r.json", "does not exist"),
        ("/proc/r.json", "cannot write"),
        ("/dev/null", "not a regular file"),
    ):
        assert words in only_line(run("audit", model, "--data", pictures, "-o", out))
        assert words in only_line(run("sanitize", model, "--data", pictures, "-o", out))
    assert "not a folder" in only_line(run("audit", model, "--data", pictures, "--artifacts", model))
    assert "does not exist" in only_line(run("audit", model, "--data", pictures, "--artifacts", tmp_path / "a" / "b"))
    same = only_line(run("sanitize", model, "--data", pictures, "-o", tmp_path / "x", "--report", tmp_path / "x"))
    assert "choose two names" in same
    assert not fake.calls
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "pictures.npz"]


def test_no_report_is_left_when_the_run_fails(fake, model, pictures, tmp_path):
    fake.error = KeyboardInterrupt()
    run("audit", model, "--data", pictures, "-o", tmp_path / "r.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "pictures.npz"]


def test_hostile_names_reach_no_terminal(fake, model, pictures):
    fake.record = audit_record(layer="\x1b[2Jlayer\u202e", name="\x9b2J.onnx")
    for form in ("table", "json"):
        out = run("audit", model, "--data", pictures, "-f", form, "--color", "never").stdout
        assert not {"\x1b", "\x9b", "\u202e"} & set(out)
