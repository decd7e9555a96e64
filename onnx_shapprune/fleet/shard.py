"""Parts of a list for jobs that know nothing of each other: an array of Slurm, an indexed job of Kubernetes."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from onnx_shapprune.errors import ListError

Item = TypeVar("Item")
Shard = tuple[int, int]


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """(index from 1, number) of "2/8", or of "auto" from what Kubernetes or Slurm say. Raises ListError."""
    if text == "auto":
        return _from_environment(environment)
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ListError(f"{text[:40]!r} is no shard: use 1/8 to 8/8, or auto")
    return int(found[1]), int(found[2])


def take(items: Sequence[Item], shard: Shard) -> tuple[Item, ...]:
    """Every n-th item, so that the sizes differ by at most one. Raises ListError where none is left for this shard."""
    index, number = shard
    if taken := tuple(items[index - 1 :: number]):
        return taken
    raise ListError(f"shard {index}/{number} of {len(items)} models is empty: use at most {len(items)} shards")


def _from_environment(environment: Mapping[str, str]) -> Shard:
    """Kubernetes counts from 0 and does not say how many there are; an array of Slurm may begin anywhere."""
    if "JOB_COMPLETION_INDEX" in environment:
        index, number = _number(environment, "JOB_COMPLETION_INDEX"), _number(environment, "JOB_COMPLETIONS")
    elif "SLURM_ARRAY_TASK_ID" in environment:
        first = _number(environment, "SLURM_ARRAY_TASK_MIN")
        step = max(1, _number(environment, "SLURM_ARRAY_TASK_STEP"))
        index = (_number(environment, "SLURM_ARRAY_TASK_ID") - first) // step
        number = _number(environment, "SLURM_ARRAY_TASK_COUNT")
    else:
        raise ListError("--shard auto: neither JOB_COMPLETION_INDEX nor SLURM_ARRAY_TASK_ID is set; give i/n")
    if not 0 <= index < number:
        raise ListError(f"--shard auto: index {index} of {number} makes no sense; give i/n")
    return index + 1, number


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ListError(f"--shard auto: {name} is {text[:40]!r} and no number; set it, or give i/n")
    return int(text)
