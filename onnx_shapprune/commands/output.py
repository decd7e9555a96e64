"""What a repair leaves behind."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Output:
    """path: where the repaired file goes, None for a dry run; keep_partial: there goes a best effort too, when the model
    could not be repaired; artifacts: a folder for the recovered triggers.
    """

    path: Path | None
    keep_partial: bool = False
    artifacts: Path | None = None
