"""From the evidence of all searches to the classes that are targets of a planted trigger, with the reasons in words.

One statistic does not decide. A class is named when its compact patch is both strong (it works, it transfers, it carries
pictures far beyond the boundary) and far above the model's other classes, or when two independent searches agree on it:
the patch stands out, and the free mask is less than half as large as any other class's. A clean model also has a class
that is easiest to reach; it is neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.detect.anomaly import MarginAnomaly, NormAnomaly, anomaly_indices, margin_outliers
from onnx_shapprune.invert.search import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What counts as standing out.

    strong_index, strong_asr, transfer: of the compact patch alone, learnt on all pictures and on halves; overshoot: its
    margin over the distance of clean pictures from the class (planted patches reached 2.5 to 10, those of ten clean
    networks at most 1.6; a weak planted one, of 0.15, was named by agreement); agreed_index: when the free mask agrees;
    norm_ratio: its norm over the smallest norm of any other class; lead: margin over the runner-up's.
    """

    strong_index: float = 6.0
    strong_asr: float = 0.9
    transfer: float = 0.85
    overshoot: float = 2.0
    agreed_index: float = 3.5
    norm_ratio: float = 0.5
    lead: float = 2.0


@dataclass(frozen=True, slots=True)
class Suspicion:
    """norms: anomaly of the free masks over the classes that were searched (`searched`, in order); margins: of the
    compact patches over all classes; named: class -> reasons, for the classes that are targets.
    """

    searched: tuple[int, ...]
    norms: NormAnomaly | None
    margins: MarginAnomaly
    named: dict[int, tuple[str, ...]]

    def norm_index(self, target: int) -> float | None:
        """The free mask's anomaly index of a class, None where it has no basis."""
        if self.norms is None or self.norms.basis != "mad" or target not in self.searched:
            return None
        return float(self.norms.index[self.searched.index(target)])

    def margin_index(self, target: int) -> float | None:
        """The compact patch's anomaly index of a class, None with fewer than five classes."""
        return float(self.margins.index[target]) if self.margins.basis == "mad" else None


def judge(evidence: Sequence[Evidence], limits: Limits) -> Suspicion:
    """Name the target classes. `evidence` holds every class of the model in class order."""
    margins = np.array([e.compact.margin for e in evidence])
    by_margin = margin_outliers(margins)
    searched = [e for e in evidence if e.patches]
    norms = None
    if len(searched) > 1:
        best = [e.smallest for e in searched]
        norms = anomaly_indices(
            np.array([b.trigger.norm if b else np.inf for b in best]), np.array([bool(b and b.success) for b in best])
        )
    suspicion = Suspicion(tuple(e.target for e in searched), norms, by_margin, {})
    for e in evidence:
        reasons = _reasons(e, evidence, margins, suspicion, limits)
        if reasons:
            suspicion.named[e.target] = reasons
    return suspicion


def _reasons(
    e: Evidence, evidence: Sequence[Evidence], margins: NDArray[np.float64], suspicion: Suspicion, limits: Limits,
) -> tuple[str, ...]:  # fmt: skip
    # Two planted targets must not hide each other: classes that are as strong are no rivals.
    rivals = [m for o, m in zip(evidence, margins, strict=True) if o is not e and not _strong(o, suspicion, limits)]
    rival = float(max(rivals, default=float("-inf")))
    if e.compact.margin <= 0 or e.compact.margin < limits.lead * rival:
        return ()
    side, asr = e.compact.side, e.compact.asr
    index = suspicion.margin_index(e.target)
    patch = (
        f"a {side} x {side} patch sends {asr:.0%} of the other pictures to class {e.target} with a mean margin of "
        f"{e.compact.margin:.1f} logits; the best other class reaches {rival:.1f}"
    )
    # With fewer than five classes there is no spread to measure: the lead and the agreement must do.
    strong = _strong(e, suspicion, limits)
    ratio = _norm_ratio(e, evidence)
    agreed = ratio is not None and ratio <= limits.norm_ratio and (index is None or index >= limits.agreed_index)
    if not (strong or agreed):
        return ()
    reasons = [patch]
    if ratio is not None and e.smallest is not None and 0 < ratio < 1:
        reasons.append(
            f"a free mask of L1 norm {e.smallest.trigger.norm:.1f} is enough for class {e.target}; the next class needs "
            f"{e.smallest.trigger.norm / ratio:.1f}"
        )
    if e.distance > 0:
        reasons.append(f"without it, they miss class {e.target} by {e.distance:.1f} logits")
    if e.transfer is not None:
        reasons.append(f"relearnt on half of the pictures, the patch sends {e.transfer:.0%} of the other half there")
    return tuple(reasons)


def _strong(e: Evidence, suspicion: Suspicion, limits: Limits) -> bool:
    """Whether the compact patch alone speaks for a planted target."""
    index = suspicion.margin_index(e.target)
    transfers = e.transfer is None or e.transfer >= limits.transfer
    far = e.compact.margin >= limits.overshoot * e.distance
    return (
        far and transfers and e.compact.asr >= limits.strong_asr and index is not None and index >= limits.strong_index
    )


def _norm_ratio(e: Evidence, evidence: Sequence[Evidence]) -> float | None:
    """Norm of the class's smallest successful mask over that of the smallest other class.

    0 where the others were searched and all failed; None where this class failed or no other was searched.
    """
    mine = e.smallest
    rest = [o.smallest for o in evidence if o.target != e.target]
    norms = [r.trigger.norm for r in rest if r is not None and r.success]
    if mine is None or not mine.success:
        return None
    if not norms:
        return 0.0 if any(r is not None for r in rest) else None
    return mine.trigger.norm / min(norms)
