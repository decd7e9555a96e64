"""`python -m onnx_shapprune` is the command `shapprune`."""

import os
import sys

# Python puts the current folder first where modules are looked for: a file called numpy.py beside a model must not run.
if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from onnx_shapprune.cli import main

if __name__ == "__main__":
    main()
