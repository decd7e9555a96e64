"""Where a file lies, as a reviewer of the repository would say it."""

import os
from pathlib import Path, PurePath


def repository_path(path: Path) -> str:
    """The path below the repository of the current folder, below that folder where there is none, with forward slashes;
    "" for a file elsewhere. Links are not followed.
    """
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    place = PurePath(os.path.abspath(path))
    if not place.is_relative_to(root):
        return ""
    return place.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()
