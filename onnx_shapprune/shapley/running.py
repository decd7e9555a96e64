"""Running estimates: one way to spend a budget, whatever is sampled.

A scheme draws samples (a walk, a pair of walks, a pair of coalitions) and sums them; an Estimator decides how many are
taken and how many at a time. Whether a sample is taken depends only on those before it, never on how many advance
together, so the result is the same for every lock-step width, and the same in one go as in several.
"""

import time
from collections.abc import Callable
from typing import Protocol

from onnx_shapprune.shapley.estimate import Estimate, Stop

Progress = Callable[[int, int], None]


class Scheme(Protocol):
    """What is drawn and summed. samples: taken so far; least, most: of them in all; cost: coalitions that a sample asks
    for at most; lockstep: samples that may advance together; evaluations: distinct coalitions asked for so far.
    """

    @property
    def samples(self) -> int: ...
    @property
    def least(self) -> int: ...
    @property
    def most(self) -> int: ...
    @property
    def cost(self) -> int: ...
    @property
    def lockstep(self) -> int: ...
    @property
    def budget(self) -> int | None: ...
    @property
    def evaluations(self) -> int: ...

    def settled(self) -> bool:
        """Whether the scheme has found what it looks for, and takes no more samples."""
        ...

    def room(self) -> int:
        """Samples until it has to look at its sums, at least 1 unless all are taken."""
        ...

    def take(self, count: int) -> None:
        """Draw and evaluate `count` samples, 1 <= count <= room()."""
        ...

    def estimate(self, stopped: Stop) -> Estimate: ...


class Estimator:
    """An estimate that can be stopped and resumed: run(samples=n), then run(samples=n + m), gives what the second gives
    alone, bit for bit.
    """

    __slots__ = ("_scheme",)

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme

    def run(
        self,
        *,
        samples: int | None = None,
        evaluations: int | None = None,
        seconds: float | None = None,
        progress: Progress | None = None,
    ) -> Estimate:
        """Go on until one of the limits, or the settings' own, is reached; the estimate from all samples so far.

        samples, evaluations: in all, those of earlier calls included. A sample begins while fewer distinct coalitions
        than `evaluations` were asked for, and is finished: dropping it would favour short ones. So the limit is passed
        by less than one sample. seconds: of this call, looked at between game calls' rounds; how many samples fit is
        the only thing that it changes. The least number that has standard errors is always taken. `progress` gets
        (samples, of). ValueError for a limit below 1, or seconds that are negative.
        """
        for name, limit in (("samples", samples), ("evaluations", evaluations)):
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1, got {limit}")
        if seconds is not None and not seconds >= 0:
            raise ValueError(f"seconds must not be negative, got {seconds}")
        scheme = self._scheme
        until = scheme.most if samples is None else min(scheme.most, samples)
        end = None if seconds is None else time.monotonic() + seconds
        limits = [limit for limit in (evaluations, scheme.budget) if limit is not None]
        budget = min(limits, default=None)
        while True:
            count, stopped = _next_round(scheme, max(until, scheme.least), budget, end)
            if count == 0:
                return scheme.estimate(stopped)
            scheme.take(count)
            if progress is not None:
                progress(scheme.samples, scheme.most)


def _next_round(scheme: Scheme, until: int, budget: int | None, end: float | None) -> tuple[int, Stop]:
    """Samples of the next round; 0 ends the run, for the reason given."""
    missing = max(scheme.least - scheme.samples, 0)
    count = min(scheme.lockstep, until - scheme.samples)
    if scheme.settled():
        return 0, "separated"
    if count <= 0:
        return 0, "samples"
    if budget is not None:
        # As many as would all begin, one after the other, even if each asked for as much as it can.
        affordable = max(-((scheme.evaluations - budget) // scheme.cost), missing)
        if affordable <= 0:
            return 0, "evaluations"
        count = min(count, affordable)
    if end is not None and time.monotonic() >= end:
        if missing == 0:
            return 0, "seconds"
        count = min(count, missing)
    return min(count, scheme.room()), "samples"
