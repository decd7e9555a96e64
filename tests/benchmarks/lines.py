"""Rows of a benchmark, one JSON object a line, so that a stopped run goes on where it was."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that are there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(rows: Iterable[dict[str, Any]], path: Path, found: list[dict[str, Any]]) -> None:
    """Write each row as it is made, show it, and add it to those that were found."""
    for row in rows:
        found.append(row)
        with path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(row, flush=True)
