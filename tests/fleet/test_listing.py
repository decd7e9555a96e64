"""What is listed is audited with what its line says; a line that means nothing stops everything."""

import json
import os
from pathlib import Path

import pytest

from onnx_shapprune.errors import ListError
from onnx_shapprune.fleet.listing import read_entries
from onnx_shapprune.fleet.shard import parse_shard, take
from onnx_shapprune.settings import InputOptions


@pytest.fixture
def models(tmp_path):
    place = tmp_path / "models"
    for name in ("b.onnx", "a.ONNX", "sub/c.onnx", "sub/notes.txt", f"results/{'0' * 64}/sanitized.onnx"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    return place


def names(entries):
    return [entry.path.name for entry in entries]


def test_a_folder_with_all_below_it_but_results(models):
    assert names(read_entries(models, data="none", leave_out=models / "results")) == ["a.ONNX", "b.onnx", "c.onnx"]
    assert len(read_entries(models, data="none")) == 4


def test_what_lies_beside_a_model_of_a_folder_is_its_own(models):
    (models / "sub").mkdir(exist_ok=True)
    described, broken = models / "sub" / "described", models / "sub" / "broken"
    for folder, text in ((described, '{"image_mean": [0.5], "do_flip_channel_order": true}'), (broken, "{")):
        (folder / "onnx").mkdir(parents=True)
        (folder / "onnx" / "model.onnx").write_bytes(b"")
        (folder / "preprocessor_config.json").write_text(text)
    asked = InputOptions(channel_order="RGB", mean=(0.1,))
    entries = {e.path: e for e in read_entries(models, data="none", inputs=asked, given={"mean"})}
    found = entries[described / "onnx" / "model.onnx"]
    assert (found.inputs.mean, found.inputs.channel_order, found.problem) == ((0.1,), "BGR", "")
    assert "is no JSON" in entries[broken / "onnx" / "model.onnx"].problem
    others = [e for path, e in entries.items() if path.name != "model.onnx"]
    assert others
    assert all((e.inputs, e.problem) == (asked, "") for e in others)
    (listed,) = read_entries(models / "**" / "described" / "onnx" / "*.onnx", data="none", inputs=asked)
    assert listed.inputs == asked, "a pattern names files, and nothing beside them"


def test_links_to_folders_are_followed_once(models, tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name in ("one", "two"):
        (shelf / name).symlink_to(models / "sub")
    (shelf / "up").symlink_to(shelf)
    (shelf / "loop").symlink_to("loop")
    assert [e.shown for e in read_entries(shelf, data="none")] == [str(shelf / "one" / "c.onnx")]


def test_a_name_that_is_no_utf8_is_listed(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.onnx")).touch()
    (entry,) = read_entries(tmp_path, data="none")
    assert entry.shown.endswith("\\udcff.onnx")
    assert entry.path.exists()


def test_a_pattern(models):
    entries = read_entries(models / "**" / "*.onnx", data="p", leave_out=models / "results")
    assert names(entries) == ["b.onnx", "c.onnx"]
    assert {str(e.data) for e in entries} == {"p"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_cannot_be_listed_is_an_error(models):
    (models / "sub").chmod(0)
    with pytest.raises(ListError, match="cannot be listed"):
        read_entries(models, data="none")


@pytest.mark.parametrize("pattern", ["", "**/*.onnx"])
def test_results_above_the_models_hide_none_of_them(models, monkeypatch, pattern):
    monkeypatch.chdir(models.parent)
    found = read_entries(Path(pattern or "models"), data="none", leave_out=Path())
    assert {"b.onnx", "c.onnx"} <= {*names(found)}


def test_only_what_a_batch_wrote_is_left_out(models):
    results = models / "results"
    for name in (
        f"{'a' * 64}/sanitized.onnx",
        f"{'a' * 64}-{'b' * 8}/sanitized.onnx",
        f"{'a' * 64}/other.onnx",
        "mine/sanitized.onnx",
    ):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).touch()
    found = {str(e.path.relative_to(models)) for e in read_entries(models, data="none", leave_out=results)}
    assert {n for n in found if n.startswith("results")} == {
        f"results/{'a' * 64}/other.onnx",
        "results/mine/sanitized.onnx",
    }
    assert len([n for n in read_entries(models, data="none") if "results" in str(n.path)]) == 5


def test_results_in_the_folder_of_models_are_refused(models):
    with pytest.raises(ListError, match="choose another folder"):
        read_entries(models, data="none", leave_out=models.parent / models.name)


def test_a_file_that_looks_like_a_comment_is_refused(models):
    (models / "#evil.onnx").touch()
    (models / "list.txt").write_text("b.onnx\n#evil.onnx\n")
    with pytest.raises(ListError, match=r"line 2 is a comment or the file '#evil.onnx': write \./#evil.onnx"):
        read_entries(models / "list.txt", data="none")
    (models / "list.txt").write_text("b.onnx\n./#evil.onnx\n# a comment\n")
    assert [e.path.name for e in read_entries(models / "list.txt", data="none")] == ["b.onnx", "#evil.onnx"]


def test_lines_of_paths(models):
    (models / "list.txt").write_text("\n# known good\nsub/c.onnx\n  /abs/d.onnx \nb.onnx\n")
    entries = read_entries(models / "list.txt", data="none")
    assert [e.shown for e in entries] == ["sub/c.onnx", "/abs/d.onnx", "b.onnx"]
    assert [str(e.path) for e in entries] == [str(models / "sub/c.onnx"), "/abs/d.onnx", str(models / "b.onnx")]


CELLS = {
    "model": "b.onnx", "data": "p.npz", "input-range": "0 255", "mean": "1,2,3", "std": "2", "layout": "NHWC",
    "input-size": "32 48", "channel-order": "BGR",
    "resize": "crop", "classes": "names.txt", "per-class": "3", "output-name": "y",
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_every_column_arrives_and_empty_cells_do_not(models, suffix):
    path = models / f"list.{suffix}"
    if suffix == "csv":
        quoted = ",".join(f'"{v}"' for v in CELLS.values())
        path.write_text(f"\ufeff{','.join(CELLS)}\n{quoted}\n\nsub/c.onnx,,,,,,,,,,\nsub/c.onnx,none\n")
    else:
        rows = [CELLS | {"mean": [1, 2, 3], "input-range": [0, 255.0], "per-class": 3, "std": 2},
                {"model": "sub/c.onnx", "layout": None}, {"model": "sub/c.onnx", "data": "none"}]  # fmt: skip
        path.write_text("\n".join(map(json.dumps, rows)))
    given = InputOptions(std=(9.0,), resize="fit")
    first, second, third = read_entries(path, data="q.npz", inputs=given)
    assert first.inputs == InputOptions(
        input_range=(0, 255), mean=(1, 2, 3), std=(2,), layout="NHWC", size=(32, 48), channel_order="BGR", resize="crop",
        class_names=models / "names.txt", per_class=3, output="y",
    )  # fmt: skip
    assert (first.data, str(second.data), third.data) == (models / "p.npz", "q.npz", None)
    assert second.inputs == third.inputs == given


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.csv", "model,men\nb.onnx,1\n", "line 2: no column 'men'; did you mean mean?"),
        ("l.csv", "path\nb.onnx\n", "line 2: no column 'path'"),
        ("l.csv", "model,data\n,p\n", "line 2 names no model"),
        ("l.csv", "model,model\nb,c\n", "a column stands twice"),
        ("l.csv", "model\nb.onnx,c\n", "line 2 has 2 cells"),
        ("l.csv", "model,mean\nb.onnx,x\n", "line 2: mean: "),
        ("l.csv", "model,input-range\nb.onnx,3\n", "not two numbers"),
        ("l.csv", "model,layout\nb.onnx,CHW\n", "none of auto, NCHW, NHWC"),
        ("l.csv", "model,input-size\nb.onnx,32\n", "is no size: give height and width"),
        ("l.csv", "model,input-size\nb.onnx,0x32\n", "is no number of at least 1"),
        ("l.csv", "model,per-class\nb.onnx,0\n", "at least 1"),
        ("l.csv", 'model\n"b.onnx', "cannot be read"),
        ("l.csv", "model\n", "has no models"),
        ("l.txt", "# nothing\n", "has no models"),
        ("l.txt", "b\udcff.onnx", "no UTF-8"),
        ("l.jsonl", '{"model": "b", "model": "c"}', "line 1: a key stands twice"),
        ("l.jsonl", '{"model": "b"}\n[]', "line 2 is no object"),
        ("l.jsonl", "{", "line 1: "),
        ("l.jsonl", "[" * 100_000, "cannot be read"),
        ("m.onnx", "x", "is a model"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, name, text, words):
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ListError) as raised:
        read_entries(tmp_path / name, data="none")
    assert words in str(raised.value)


def test_every_model_needs_pictures_or_none(models):
    (models / "l.csv").write_text("model,data\nb.onnx,p\nsub/c.onnx,\n")
    with pytest.raises(ListError, match=r"line 3 names no data"):
        read_entries(models / "l.csv")
    with pytest.raises(ListError, match=r"--data"):
        read_entries(models)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv", "*.pt"])
def test_nothing_is_an_error(tmp_path, name):
    with pytest.raises(ListError, match=r"no models|not found"):
        read_entries(tmp_path / name, data="none")


def test_shards_are_a_partition():
    items = list(range(11))
    parts = [take(items, parse_shard(f"{i}/4")) for i in range(1, 5)]
    assert sorted(sum(parts, ())) == items
    assert {len(p) for p in parts} == {2, 3}
    with pytest.raises(ListError, match="at most 2 shards"):
        take([1, 2], (3, 3))


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "-1/4", "1", "a/b", "1/4/2", "", "1/9999999"])
def test_what_is_no_shard(text):
    with pytest.raises(ListError, match="no shard"):
        parse_shard(text)


SLURM = {"SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_COUNT": "4"}


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "8"}, (1, 8)),
        ({"JOB_COMPLETION_INDEX": "7", "JOB_COMPLETIONS": "8"}, (8, 8)),
        (SLURM | {"SLURM_ARRAY_TASK_ID": "3"}, (1, 4)),
        (SLURM | {"SLURM_ARRAY_TASK_ID": "9"}, (4, 4)),
        ({"JOB_COMPLETION_INDEX": "8", "JOB_COMPLETIONS": "8"}, "makes no sense"),
        ({"JOB_COMPLETION_INDEX": "0"}, "JOB_COMPLETIONS is ''"),
        (SLURM | {"SLURM_ARRAY_TASK_ID": "11"}, "makes no sense"),
        (SLURM | {"SLURM_ARRAY_TASK_ID": "x"}, "is 'x'"),
        ({}, "neither"),
    ],
)
def test_shards_of_a_cluster(environment, shard):
    if isinstance(shard, tuple):
        assert parse_shard("auto", environment) == shard
        return
    with pytest.raises(ListError, match=shard):
        parse_shard("auto", environment)
