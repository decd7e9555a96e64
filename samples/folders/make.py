"""Two folders as models come in them, made of the bundled sample: a snapshot of Hugging Face and a folder of MLflow.

python samples/folders/make.py FOLDER
"""

import json
import shutil
import sys
from pathlib import Path

from onnx_shapprune.sample import sample_path

CLASSES = sorted(path.name.partition("_") for path in sample_path("pictures").iterdir())
CONFIG = {"id2label": {number: name for number, _, name in CLASSES}}
# Bytes times 1/255, neither cut nor normalised, is what the sample was trained on.
PREPROCESSOR = {
    "do_resize": True,
    "size": {"height": 28, "width": 28},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": False,
}
MLMODEL = """flavors:
  onnx:
    data: model.onnx
    onnx_version: 1.23.0
signature:
  inputs: '[{"name": "input", "type": "tensor", "tensor-spec": {"dtype": "float32",
    "shape": [-1, 1, 28, 28]}}]'
"""


def main(folder: Path) -> None:
    """Write both, with the backdoored network in each."""
    snapshot, logged = folder / "huggingface", folder / "mlflow"
    for place in (snapshot / "onnx", logged):
        place.mkdir(parents=True)
        shutil.copy(sample_path("backdoored.onnx"), place / "model.onnx")
    (snapshot / "config.json").write_text(json.dumps(CONFIG, indent=2))
    (snapshot / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2))
    (logged / "MLmodel").write_text(MLMODEL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
