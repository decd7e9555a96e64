"""JAX to ONNX: python samples/export/from_jax.py model.onnx"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax2onnx import to_onnx

from onnx_shapprune.sample import sample_path

with np.load(sample_path("test.npz")) as data:  # yours: any pictures, NHWC
    x, y = jnp.asarray(data["x"], jnp.float32) / 255, jnp.asarray(data["y"], jnp.int32)


def network(weights, pictures):
    for kernel, bias in weights[:2]:
        pictures = jax.lax.conv_general_dilated(
            pictures, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        pictures = jax.nn.relu(pictures + bias)
    return pictures.reshape(pictures.shape[0], -1) @ weights[2][0] + weights[2][1]


@jax.jit
def step(weights, pictures, labels):
    def loss(w):
        return -jnp.take_along_axis(jax.nn.log_softmax(network(w, pictures)), labels[:, None], 1).mean()

    return jax.tree.map(lambda w, g: w - 0.1 * g, weights, jax.grad(loss)(weights))


rng = np.random.default_rng(0)
shapes = [(3, 3, 1, 8), (3, 3, 8, 16), (7 * 7 * 16, 10)]
trained = [
    (jnp.asarray(rng.normal(size=s) * np.sqrt(2 / np.prod(s[:-1])), jnp.float32), jnp.zeros(s[-1])) for s in shapes
]
for _ in range(10):
    for batch in np.split(rng.permutation(len(x)), 20):
        trained = step(trained, x[batch], y[batch])

to_onnx(
    lambda pictures: network(trained, pictures), [("batch", 28, 28, 1)], return_mode="file", output_path=sys.argv[1]
)  # fmt: skip
