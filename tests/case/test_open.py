"""What pictures a case stands on where none are given."""

import numpy as np
import onnx
import planted

from onnx_shapprune.case.open import DRAWN, open_case
from onnx_shapprune.settings import InputOptions, RunOptions


def test_of_few_classes_several_pictures_each_are_drawn(tmp_path):
    onnx.save(planted.rows_net(), tmp_path / "model.onnx")
    case = open_case(tmp_path / "model.onnx", None, InputOptions(), RunOptions(threads=1, device="cpu"))
    classes = case.model.subject.classes
    each = np.bincount(case.shown.labels, minlength=classes)
    assert classes < DRAWN
    assert each.max() == -(-DRAWN // classes) > 1
    one = case.pictures[case.shown.labels == int(each.argmax())]
    assert not (one[0] == one[1]).all(), "each begins with noise of its own"
