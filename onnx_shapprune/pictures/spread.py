"""Which pictures stand for all where a few must do."""

import numpy as np
from numpy.typing import NDArray


def spread_over(total: int, most: int) -> NDArray[np.int64]:
    """At most so many of `total` row numbers, spread evenly, int64 in order."""
    return np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(np.int64))
