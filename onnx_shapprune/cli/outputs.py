"""Refuse places that cannot be written before any work is done."""

import itertools
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from onnx_shapprune.errors import OutputError
from onnx_shapprune.files.writing import check_folder, check_writable, same_file


def check_outputs(
    outputs: Sequence[Path | None], *, inputs: Sequence[Path | None], artifacts: Path | None = None
) -> None:
    """Raise OutputError unless every output can be written and none of them is an input or another output.

    Nothing is changed. artifacts: a folder that may still have to be made.
    """
    wanted = [path for path in outputs if path is not None]
    for path in wanted:
        check_writable(path)
        for source in inputs:
            if source is not None and same_file(path, source):
                raise OutputError(f"output {path} is the same file as input {source}: choose another name")
    for a, b in itertools.combinations(wanted, 2):
        if same_file(a, b):
            raise OutputError(f"{a} and {b} are the same file: choose two names")
    if artifacts is not None:
        try:
            found = stat.S_ISDIR(os.stat(artifacts).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            check_folder(artifacts.parent, what=artifacts)
        except (OSError, ValueError):
            raise OutputError(f"cannot write artifacts into {str(artifacts)!r}: it is no path") from None
        else:
            if not found:
                raise OutputError(f"cannot write artifacts into {artifacts}: it is not a folder")
            check_folder(artifacts, what=artifacts)
