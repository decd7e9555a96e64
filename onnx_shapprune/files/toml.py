"""TOML from strangers: a key with thousands of dots costs time that grows with their square, and is refused first."""

import re
import tomllib

STRINGS = re.compile(r"""\"(?:\\.|[^"\\])*\"|'[^']*'""")
MOST_DOTS = 100  # in a line, outside of strings


def parsed_toml(text: str) -> dict[str, object]:
    """What a TOML text says. Raises ValueError, also for a line with a key of more than MOST_DOTS parts, and
    RecursionError.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS and STRINGS.sub("", line).count(".") > MOST_DOTS:
            raise ValueError(f"line {number} has a key of more than {MOST_DOTS} parts")
    return tomllib.loads(text)
