"""Which preprocessing fits: known networks, fed by nobody's guess."""

import json

import numpy as np
import pytest
from colours import colours, network

from onnx_shapprune.commands.audit import audit
from onnx_shapprune.commands.fit import fit
from onnx_shapprune.errors import DataError, ModelError
from onnx_shapprune.pictures.preprocess import Preprocessing
from onnx_shapprune.pictures.usual import USUAL
from onnx_shapprune.record.fit import FitRecord
from onnx_shapprune.sample import sample_path
from onnx_shapprune.settings import InputOptions, RunOptions

QUICK = RunOptions(device="cpu", threads=1)
BY_NAME = {s.name: s.preprocessing for s in USUAL}


@pytest.fixture
def data(tmp_path):
    x, y = colours()
    np.savez(tmp_path / "labelled.npz", x=x, y=y)
    np.savez(tmp_path / "flat.npz", x=x)
    np.savez(tmp_path / "wrong.npz", x=x, y=(y + 4) % 9)
    return tmp_path


def saved(folder, model):
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def changed(p: Preprocessing, order: str) -> Preprocessing:
    return Preprocessing(input_range=p.input_range, mean=p.mean, std=p.std, channel_order=order)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("name", BY_NAME)
def test_the_setting_that_a_network_was_made_for_fits(data, name, order):
    made_for = changed(BY_NAME[name], order)
    record = fit(saved(data, network(made_for)), data / "labelled.npz", run=QUICK)
    assert (record.none_fits, record.guess, record.best.right, record.best.channel_order) == (False, False, 9, order)
    own = [i for i, r in enumerate(record.rows) if (r.input_range, r.mean, r.std) == (
        made_for.input_range, made_for.mean, made_for.std) and r.channel_order == order]  # fmt: skip
    assert record.rows[own[0]].right == 9
    close = [r.name for i, r in enumerate(record.rows) if i == 0 or i in record.alike]
    assert len(close) < 8, "most settings are told from it"
    assert [r.right for r in record.rows] == sorted((r.right for r in record.rows), reverse=True)


@pytest.mark.parametrize(("name", "options"), [
    ("0 to 255", "--input-range 0 255"),
    ("Caffe mean", "--input-range 0 255 --mean 123.68,116.779,103.939"),
])  # fmt: skip
def test_options_to_paste_are_those_that_fit(data, name, options):
    path = saved(data, network(BY_NAME[name]))
    record = fit(path, data / "labelled.npz", run=QUICK)
    assert (record.best.options, record.alike) == (options, ())
    assert "clearly fewer with every other setting" in record.reason
    assert FitRecord.model_validate_json(record.model_dump_json()) == record
    again = fit(path, data / "labelled.npz", run=QUICK, inputs=InputOptions(
        input_range=record.best.input_range, mean=record.best.mean, std=record.best.std))  # fmt: skip
    assert (again.rows[0].name, again.best.options) == (f"{name}, as given", options)


def test_none_fits_where_the_labels_are_others(data):
    record = fit(saved(data, network(Preprocessing())), data / "wrong.npz", run=QUICK)
    assert (record.none_fits, record.best, record.alike) == (True, None, ())
    assert record.reason.startswith("none of the ")


def test_two_that_these_pictures_do_not_tell_apart_are_named(data):
    made_for = BY_NAME["CIFAR-10 mean and std"]
    record = fit(saved(data, network(made_for)), data / "labelled.npz", run=QUICK)
    names = {record.rows[0].name, *(record.rows[i].name for i in record.alike)}
    assert {"CIFAR-10 mean and std", "ImageNet mean and std"} <= names
    assert f"do not tell {len(record.alike)} other" in record.reason


def test_without_labels_it_is_a_guess(data):
    record = fit(saved(data, network(Preprocessing(input_range=(0, 255)))), data / "flat.npz", run=QUICK)
    assert (record.guess, record.none_fits, record.label_source) == (True, False, "none")
    assert record.reason.startswith("a guess, since the pictures have no labels")
    assert record.best.right is None
    assert 0 <= record.best.on_noise <= 1
    assert record.best.agreement <= 1


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_layouts_are_tried_where_the_file_leaves_them_open(data, layout):
    made_for = Preprocessing(input_range=(0, 255), layout=layout)
    inputs = InputOptions(size=(4, 4))
    rng = np.random.default_rng(0)
    x, y = colours()
    # One colour in a picture reads alike in no order but its own; noise makes it a picture.
    noisy = np.clip(x + rng.integers(-9, 10, x.shape), 0, 255).astype(np.uint8)
    np.savez(data / "noisy.npz", x=noisy, y=y)
    record = fit(saved(data, network(made_for, flat=True)), data / "noisy.npz", inputs=inputs, run=QUICK)
    assert (record.best.layout, record.best.right) == (layout, 9)
    assert record.best.options == f"--input-range 0 255 --layout {layout}"
    said = fit(data / "m.onnx", data / "noisy.npz", run=QUICK, inputs=InputOptions(size=(4, 4), layout="NCHW"))
    assert {r.layout for r in said.rows} == {"NCHW"}
    assert "--layout" not in said.rows[0].options


def test_what_the_file_says_is_shown_and_tried_and_not_believed(data):
    """Numbers that are on no list: the metadata of one file is right, that of the other is not."""
    odd = Preprocessing(input_range=(0, 1), mean=(0.9, 0.1, 0.3), std=(0.5, 0.05, 0.1))
    honest = {"preprocessor_config": json.dumps({"image_mean": odd.mean, "image_std": odd.std, "id2label": {"0": "a"}})}
    record = fit(saved(data, network(odd, metadata=honest)), data / "labelled.npz", run=QUICK)
    assert (record.best.name, record.best.options) == ("the file's metadata", "--mean 0.9,0.1,0.3 --std 0.5,0.05,0.1")
    assert [m.key for m in record.metadata] == ["preprocessor_config"]
    lying = network(Preprocessing(input_range=(0, 255)), metadata=honest)
    record = fit(saved(data, lying), data / "labelled.npz", run=QUICK)
    assert (record.best.name, record.metadata[0].key) == ("0 to 255", "preprocessor_config")


def test_hostile_metadata_is_cut_and_made_plain(data):
    hostile = {"mean\x1b[31m": "0.5\x1b]0;evil\x07" * 1000, "names": "\u202e" + "{0: '" * 50_000}
    record = fit(saved(data, network(Preprocessing(), metadata=hostile)), data / "labelled.npz", run=QUICK)
    said = "".join(m.key + m.value for m in record.metadata)
    assert all(c.isprintable() for c in said)
    assert len(said) < 600
    assert record.best is not None


def test_what_cannot_be_tried_is_an_error(data):
    path = saved(data, network(Preprocessing()))
    with pytest.raises(DataError, match="give some with --data"):
        fit(path, None, run=QUICK)
    with pytest.raises(ModelError, match="not an ONNX"):
        fit(data / "labelled.npz", data / "labelled.npz", run=QUICK)


@pytest.mark.parametrize(
    ("wrong", "right"), [({"input_range": (-1.0, 1.0)}, 1), ({"mean": (0.1307,), "std": (0.3081,)}, 2)]
)
def test_an_audit_on_wrong_numbers_is_inconclusive_and_names_the_right_ones(wrong, right):
    """Two of ten right may be chance at half; what the default gets right on the same pictures is none."""
    record = audit(sample_path("clean.onnx"), sample_path("pictures"), inputs=InputOptions(**wrong), run=QUICK)
    assert (record.verdict, record.classes, record.data.preprocessing) == ("inconclusive", (), "unlikely")
    assert record.reasons[0].startswith(
        f"{right} of 10 clean pictures get their label, and 10 of 10 with the default preprocessing (0 to 1)"
    )
    assert record.before.acc == right / 10
