"""Keras (on TensorFlow, JAX or PyTorch) to ONNX: python samples/export/from_keras.py model.onnx"""

import sys

import keras
import numpy as np

from onnx_shapprune.sample import sample_path

with np.load(sample_path("test.npz")) as data:  # yours: any pictures, NHWC
    x, y = data["x"].astype(np.float32) / 255, data["y"].astype(np.int64)

keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((28, 28, 1)),
    keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
    keras.layers.MaxPooling2D(),
    keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
    keras.layers.MaxPooling2D(),
    keras.layers.Flatten(),
    keras.layers.Dense(10, activation="softmax"),
])  # fmt: skip
model.compile(optimizer=keras.optimizers.Adam(3e-3), loss="sparse_categorical_crossentropy")
model.fit(x, y, batch_size=50, epochs=6, verbose=0)
model.export(sys.argv[1], format="onnx", verbose=False)
