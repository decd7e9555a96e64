"""Is the few-shot accuracy so low that the preprocessing must be wrong?"""

import numpy as np

from onnx_shapprune.case.open import Case
from onnx_shapprune.detect.fit import Attempt, attempts, beats, bounds, ranked
from onnx_shapprune.detect.thresholds import CONFIDENCE, LOOKED_AGAIN, WORKING
from onnx_shapprune.pictures.few_shot import FewShot
from onnx_shapprune.pictures.usual import Setting, flags, to_try

SHOWN = 4  # folders that are named


def too_low(right: int, total: int, floor: float | None) -> str | None:
    """The reason to stop when even the upper confidence bound of the accuracy is under the floor, else None.

    right of total pictures were answered as labelled; floor in 0..1, None = 0.6. The bound is the one-sided 95 %
    Clopper-Pearson bound, so that ten pictures of a mediocre model do not stop an audit.
    """
    wanted = WORKING if floor is None else floor
    upper = bounds(right, total)[1]
    if upper >= wanted and (right > 0 or floor is not None):  # no right answer at all is suspicious even of two
        return None
    return (
        f"only {right} of {total} clean pictures get their label (at most {upper:.0%} with {CONFIDENCE:.0%} confidence, "
        f"{wanted:.0%} expected): the preprocessing is probably wrong; check --input-range, --mean, --std, --layout and "
        "--channel-order, or the class order of the pictures"
    )


def beaten(case: Case) -> str | None:
    """The usual setting of the preprocessing that clearly does better than the one in use, in words, else None."""
    subject, shown = case.model.subject, case.shown
    own = Setting("as given", "the options", subject.preprocessing)
    settings = to_try(shown.size[2], (own,), subject.preprocessing, scaled=case.model.interface.scaled)
    tried = attempts(subject, settings, shown.pictures, shown.labels)
    found = ranked(tried, subject.classes)
    given, best = tried[0], found.tried[0]
    if not found.fits or not beats(best, given):
        return None
    return (
        f"{_of(given)} clean pictures get their label, and {_of(best)} with "
        f"{flags(best.setting.preprocessing) or 'the default preprocessing'} ({best.setting.name}): check "
        "--input-range, --mean, --std and --channel-order; shapprune fit shows all settings that were tried"
    )


def _of(attempt: Attempt) -> str:
    assert attempt.right is not None
    return f"{int(attempt.right.sum())} of {len(attempt.right)}"


def assumed(few: FewShot) -> str:
    """Which class each folder was taken for, where nothing but the alphabet says so; "" where something else did."""
    if not few.alphabetical or few.y is None:
        return ""
    index = {name.partition("/")[0]: label for name, label in zip(few.names, few.y.tolist(), strict=True)}
    listed = ", ".join(f"{index[name]} {name}" for name in few.alphabetical[:SHOWN] if name in index)
    more = ", ..." if len(few.alphabetical) > SHOWN else ""
    return f"the folders were numbered alphabetically ({listed}{more}): --classes says which class each is"


def unusable(case: Case, floor: float | None) -> str | None:
    """Why an audit on these pictures would prove nothing, else None. floor: as in `too_low`, for labels that were given; 0
    asks for no accuracy at all.
    """
    shown, reason = case.shown, None
    if case.labels_given and floor != 0 and shown.accuracy < LOOKED_AGAIN and (reason := beaten(case)):
        return reason + (f"; {assumed(case.few)}" if case.few.alphabetical else "")
    if case.labels_given:
        reason = too_low(int(shown.right.sum()), len(shown), floor)
    if reason is not None and case.few.alphabetical:
        reason += f"; or the order of the classes, since {assumed(case.few)}"
    if reason is None and (len(np.unique(shown.labels)) < 2 or len(np.unique(shown.answers)) < 2):
        return "the pictures show, or the model answers, one class only: at least two are needed to tell a trigger"
    return reason
