"""A list of labels belongs to its pictures as a whole, or to none of them."""

import numpy as np
import pytest

from onnx_shapprune.errors import DataError
from onnx_shapprune.pictures.few_shot import FewShot, load_class_names
from onnx_shapprune.pictures.labels import labelled

NAMES = ("cat", "dog", "0")


def flat(*files: str, source=None) -> FewShot:
    y = None if source is None else np.zeros(len(files), np.int64)
    return FewShot(x=np.zeros((len(files), 2, 2, 1), np.uint8), y=y, names=files, label_source=source)


@pytest.fixture
def written(tmp_path):
    def write(text: str, name: str = "labels.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_names_and_numbers(written):
    found = labelled(flat("a.png", "b, c.png"), written('file,label\n./a.png,dog\n"b, c.png", 2 \n\n'), NAMES, 3)
    assert (found.y.tolist(), found.label_source) == ([1, 2], "given")


def test_a_name_wins_over_a_number(written):
    path = written("file,label\na.png,0\n")
    assert labelled(flat("a.png"), path, NAMES, 3).y.tolist() == [2]
    assert labelled(flat("a.png"), path, (), 3).y.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.png,0\n", "first line must be file,label"),
        ("file,label\na.png\n", "line 2: give a file and a label"),
        ("file,label\na.png,\n", "line 2: give a file and a label"),
        ("file,label\na.png,0\n./a.png,1\n", "line 3: 'a.png' stands twice"),
        ("file,label\na.png,3\n", "'3' is no class: give a number below 3 or a class name"),
        ("file,label\na.png,-1\n", "'-1' is no class"),
        ("file,label\na.png,bird\n", "'bird' is no class"),
        ("file,label\nb.png,0\n", "say nothing of 'a.png'"),
        ("file,label\na.png,0\nz.png,0\n", "name 'z.png', which is no picture"),
        ('file,label\n"a.png,0\n', "cannot be read"),
    ],
)
def test_what_is_no_list_of_labels(written, text, words):
    with pytest.raises(DataError, match=words) as caught:
        labelled(flat("a.png"), written(text), ("cat", "dog", "ant"), 3)
    assert "\n" not in str(caught.value)


def test_words_without_names_say_what_is_missing(written):
    with pytest.raises(DataError, match="--classes tells what words mean"):
        labelled(flat("a.png"), written("file,label\na.png,cat\n"), (), 3)


def test_pictures_that_have_labels_take_no_others(written):
    for source in ("folder", "given"):
        with pytest.raises(DataError, match=rf"labels of their own \({source}\)"):
            labelled(flat("a.png", source=source), written("file,label\na.png,0\n"), (), 3)


def test_class_names_out_of_a_configuration(written):
    path = written('{"id2label": {"1": "dog", "0": "cat"}}', "config.json")
    assert load_class_names(path) == ("cat", "dog")
    assert load_class_names(written('{"label_names": ["a", "b"]}', "config.json")) == ("a", "b")
    for text in ('{"id2label": {"0": "LABEL_0"}}', '{"id2label": {"1": "x"}}', "{}", "[]", '{"id2label": {"0": 7}}'):
        with pytest.raises(DataError, match="hold no id2label"):
            load_class_names(written(text, "config.json"))
    with pytest.raises(DataError, match="class 0 has no printable name"):
        load_class_names(written('{"id2label": {"0": "\\u001b[2J"}}', "config.json"))
    with pytest.raises(DataError, match="no JSON"):
        load_class_names(written("{", "config.json"))
