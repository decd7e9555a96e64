"""What other detectors would say of audits that are there."""

from onnx_shapprune.record.audit import ClaimPart
from tests.benchmarks.calibration import Audit
from tests.benchmarks.detectors import mm_bd, neural_cleanse, ours, table
from tests.benchmarks.summary import Leader, Row


def audit(kind: str, *, index: float = 0.0, peak: float = 0.0, named: tuple[int, ...] = ()) -> Audit:
    """Of a network whose target is class 3, where it has one; everything speaks for class 3."""
    row = Row(
        file=f"{kind}-{index}-{peak}-{named}",
        kind=kind,
        task="audit",
        verdict="fail" if named else "pass",
        target_classes=list(named),
        true_target=3 if kind == "all-to-one" else None,
        norm_leader=Leader(target=3, index=index),
    )
    claims = [
        ClaimPart(statistic="peak", kind="all-to-one", targets=(3,), value=peak, p_value=0.1),
        ClaimPart(statistic="wide", kind="all-to-one", targets=(4,), value=99.0, p_value=0.1),
    ]
    return Audit(row, tuple(claims), {}, 10, (28, 28), 10)


def test_each_detector_has_its_own_line():
    assert [neural_cleanse(audit("clean", index=i)) for i in (2.0, 2.1)] == [[], [3]]
    assert [tuple(mm_bd(audit("clean", peak=p))) for p in (1.30, 1.31)] == [(), (3,)], "0.05 is 1.301"
    assert [ours(audit("clean", named=n)) for n in ((), (4,))] == [[], [4]]


def test_the_table_counts_accused_clean_models_and_right_and_wrong_classes():
    known = [audit("clean", index=3.0), audit("clean"), audit("all-to-one", index=3.0, named=(3,))]
    known += [audit("all-to-one", named=(7,)), audit("source-specific", index=9.0, peak=9.0, named=(3,))]
    lines = table(known).splitlines()[2:]
    counts = [[cell.split(" (")[0] for cell in line.strip("| ").split(" | ")] for line in lines]
    assert counts == [
        ["Neural Cleanse", "one a class", "1 of 2", "1 of 2", "0"],
        ["MM-BD", "one a class", "0 of 2", "0 of 2", "0"],
        ["onnx-shapprune", "one a class", "0 of 2", "1 of 2", "1"],
    ]
