"""Numbers as words, the same in every report."""

import math

from onnx_shapprune.detect.thresholds import LEAST_SAID, NORMAL_95


def number(value: float | None) -> str:
    """Two decimals, three digits for large values, "-" for what could not be told."""
    return "-" if value is None else f"{value:.2f}" if abs(value) < 1000 else f"{value:.3g}"


def signed(value: float) -> str:
    return f"{value:+.4f}" if abs(value) < 100 else f"{value:+.3g}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share of 1 in percent."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def p_value(value: float | None) -> str:
    """Three decimals, or a power of ten where those say nothing; below LEAST_SAID no more than that."""
    if value is not None and value < LEAST_SAID:
        return f"below {LEAST_SAID:g}"
    return "-" if value is None else f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def wilson(share: float, number: int) -> tuple[float, float]:
    """95 % interval of a share of `number` independent trials (Wilson 1927); 0..1 for none."""
    if number <= 0:
        return 0.0, 1.0
    z2 = NORMAL_95**2 / number
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(max(0.0, share * (1 - share)) * z2 + z2**2 / 4) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)
