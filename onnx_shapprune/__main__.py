"""`python -m onnx_shapprune` is the command `shapprune`."""

from onnx_shapprune.cli import main

if __name__ == "__main__":
    main()
