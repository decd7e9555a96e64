"""scikit-learn to ONNX: python samples/export/from_sklearn.py model.onnx"""

import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier

from onnx_shapprune.sample import sample_path

with np.load(sample_path("test.npz")) as data:  # yours: any pictures, one row of pixels each
    x = data["x"].reshape(len(data["x"]), -1).astype(np.float32) / 255
    y = data["y"].astype(np.int64)

model = MLPClassifier((64,), max_iter=30, random_state=0).fit(x, y)
# Without zipmap=False the scores are a list of dictionaries, not a tensor.
exported = to_onnx(model, x[:1], options={id(model): {"zipmap": False}})
Path(sys.argv[1]).write_bytes(exported.SerializeToString())
