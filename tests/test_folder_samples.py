"""The folders of samples/folders are read as its README says."""

import os
import re
import subprocess
import sys

import pages

from onnx_shapprune.case.beside import with_found
from onnx_shapprune.pictures.beside import model_in
from onnx_shapprune.pictures.few_shot import load_class_names
from onnx_shapprune.settings import InputOptions

SAMPLE = pages.ROOT / "samples" / "folders"


def test_the_folders_say_what_the_readme_shows(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(pages.ROOT)}
    subprocess.run([sys.executable, SAMPLE / "make.py", tmp_path / "folders"], env=environment, check=True)
    snapshot, logged = tmp_path / "folders" / "huggingface", tmp_path / "folders" / "mlflow"
    inputs = with_found(InputOptions(), model_in(snapshot), ())
    shown = re.findall(r"^note: (--.*)$", (SAMPLE / "README.md").read_text(), re.MULTILINE)
    assert list(inputs.found) == shown
    assert load_class_names(inputs.class_names)[-1] == "Ankle-boot"
    found = with_found(InputOptions(), model_in(logged), ())
    assert (found.layout, found.size) == ("NCHW", (28, 28))
