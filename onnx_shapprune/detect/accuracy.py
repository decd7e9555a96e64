"""Is the few-shot accuracy so low that the preprocessing must be wrong?"""

import numpy as np
from scipy.stats import beta

from onnx_shapprune.case.open import Case
from onnx_shapprune.detect.thresholds import ACCURACY_FLOOR, CONFIDENCE

SHOWN = 4  # folders that are named


def too_low(right: int, total: int, floor: float | None) -> str | None:
    """The reason to stop when even the upper confidence bound of the accuracy is under the floor, else None.

    right of total pictures were answered as labelled; floor in 0..1, None = 0.5. The bound is the one-sided 95 %
    Clopper-Pearson bound, so that ten pictures of a mediocre model do not stop an audit.
    """
    wanted = ACCURACY_FLOOR if floor is None else floor
    upper = 1.0 if right == total else float(beta.ppf(CONFIDENCE, right + 1, total - right))
    if upper >= wanted and (right > 0 or floor is not None):  # no right answer at all is suspicious even of two
        return None
    return (
        f"only {right} of {total} clean pictures get their label (at most {upper:.0%} with {CONFIDENCE:.0%} confidence, "
        f"{wanted:.0%} expected): the preprocessing is probably wrong; check --input-range, --mean, --std, --layout and "
        "--channel-order, or the class order of the pictures"
    )


def unusable(case: Case, floor: float | None) -> str | None:
    """Why an audit on these pictures would prove nothing, else None. floor: as in `too_low`, for labels that were given."""
    shown = case.shown
    reason = too_low(int(shown.right.sum()), len(shown), floor) if case.labels_given else None
    if reason is not None and (names := case.few.alphabetical):
        reason += (
            f"; or the order of the classes, since the folders were numbered alphabetically ({', '.join(names[:SHOWN])}, "
            "...): --classes says which class each is"
        )
    if reason is None and (len(np.unique(shown.labels)) < 2 or len(np.unique(shown.answers)) < 2):
        return "the pictures show, or the model answers, one class only: at least two are needed to tell a trigger"
    return reason
