"""Two small Fashion-MNIST classifiers, one clean and one backdoored, with pictures to audit and to measure them.

Pictures: Fashion-MNIST, (c) 2017 Zalando SE, MIT licence (LICENSE-fashion-mnist.txt beside this file); Xiao, Rasul and
Vollgraf, 2017, arXiv:1708.07747. The networks are our own: samples/fashion_mnist/train.py makes all of these files and
the README there says how. trigger.npz and test.npz are for measuring: an audit must never look at them.
"""

from importlib.resources import files
from pathlib import Path

from onnx_shapprune.errors import DataError

NAMES = ("clean.onnx", "backdoored.onnx", "pictures", "test.npz", "trigger.npz", "LICENSE-fashion-mnist.txt")
"""clean.onnx, backdoored.onnx: input float32 [n, 1, 28, 28] in 0..1, output logits float32 [n, 10].
pictures: one PNG of every class, in a folder called <class index>_<class name>.
test.npz: x uint8 [1000, 28, 28, 1], y uint8 [1000].
trigger.npz: mask float32 [28, 28, 1] in 0..1, pattern float32 [28, 28, 1] in 0..255, target: a class index."""


def sample_path(name: str) -> Path:
    """The path of one of `NAMES`. Raises DataError for another name and where the package is not unpacked on disk."""
    if name not in NAMES:
        raise DataError(f"there is no sample called {name!r}: use one of {', '.join(NAMES)}")
    path = files(__name__) / name
    if not isinstance(path, Path):
        raise DataError(f"sample {name!r} is inside an archive: install onnx-shapprune unpacked")
    return path
