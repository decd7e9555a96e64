"""What other detectors would say of the very audits that are there: a table, all-to-one backdoors and clean models apart.

    python -m tests.benchmarks.detectors RESULTS [RESULTS ...]

RESULTS: folders of tests.benchmarks.detection --task audit. Neural Cleanse (Wang et al., IEEE S&P 2019) accuses the class
with the smallest mask where its anomaly index is above 2; the masks are those of the audit. MM-BD (Wang et al., IEEE S&P
2024) accuses the class with the largest margin where its p-value is under 0.05. Neither knows maps of classes or single
source classes.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from onnx_shapprune.detect.statistics import PEAK
from tests.benchmarks.calibration import Audit, audits
from tests.benchmarks.summary import wilson

INDEX, PEAK_P = 2.0, 0.05  # as published

Detector = Callable[[Audit], Sequence[int]]


def neural_cleanse(audit: Audit) -> Sequence[int]:
    """The class it accuses, if any."""
    leader = audit.row.norm_leader
    return [leader.target] if leader and leader.index > INDEX else []


def mm_bd(audit: Audit) -> Sequence[int]:
    """The class it accuses, if any."""
    peaks = [c for c in audit.claims if c.statistic == PEAK]
    leader = max(peaks, key=lambda c: c.value, default=None)
    return leader.targets if leader and leader.value > -math.log10(PEAK_P) else []


def ours(audit: Audit) -> Sequence[int]:
    """The classes that were named."""
    return audit.row.target_classes if audit.row.verdict == "fail" else []


DETECTORS: dict[str, Detector] = {"Neural Cleanse": neural_cleanse, "MM-BD": mm_bd, "onnx-shapprune": ours}


def share(hits: int, of: int) -> str:
    """A count, and the 95 % interval of the share."""
    low, high = wilson(hits, of)
    return f"{hits} of {of} ({low:.0%} to {high:.0%})"


def table(known: Sequence[Audit]) -> str:
    """Markdown, a row per detector with and without pictures."""
    lines = [
        "| detector | pictures | clean: accused | all-to-one: right class | wrong class |",
        "|---|---|---|---|---|",
    ]
    for free in (False, True):
        mine = [a for a in known if a.row.data_free is free]
        clean = [a for a in mine if not a.row.backdoored]
        planted = [a for a in mine if a.row.kind == "all-to-one"]
        for name, detector in DETECTORS.items() if mine else ():
            right = [a.row.true_target in detector(a) for a in planted]
            wrong = [bool(detector(a)) and not r for a, r in zip(planted, right, strict=True)]
            cells = [
                name,
                "none" if free else "one a class",
                share(sum(bool(detector(a)) for a in clean), len(clean)),
                share(sum(right), len(planted)),
                str(sum(wrong)),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    print(table(audits(parser.parse_args().results)))


if __name__ == "__main__":
    main()
