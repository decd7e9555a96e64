"""What the statistics reach on models that are known to be clean, and how unusual a model is beside that.

An audit makes a dozen statistics, and the smallest of so many p-values is small by chance. With ten classes or more what
all searches say about one class is added up first (Fisher's method: the sum of the -log10 of their p-values), and that sum
is a statistic of its own. A planted class leads in many families, each by some way; a natural one mostly in few, one of
them by much. What patches and masks say is added up once more by itself: a planted patch may do
nothing as a change of the whole picture, and the strongest of what is natural are such changes. These sums are then held
against the smallest p-value that whole clean models reach, each of them judged by the others: what a claim gets is the share
of clean models that show anything as unusual.

Some things have a share of the false alarms for themselves. What triggers of all kinds do to the most reluctant picture is
known of fewer clean models: it is added to what the sums say, and both together have half of theirs (OF_EVERY). Pairs and
maps of classes have a small one (OF_APART): those of clean models are at times far ahead; so have classes that patches lead
to together. And of the changes of the whole picture the one that says most counts once more alone (OF_KIND): a planted warp
is seen by warps, a sinusoid by sinusoids, and by nothing else. That is a doubt, and names nothing.

p-values are conformal where clean models reach the value: the share of them that do. Beyond, an exponential tail is
fitted to the upper quarter (peaks over a threshold; Pickands, Annals of Statistics 1975). A handful of models has not shown
the worst that a clean model can do: the tail is no steep one, and is that of the next value to come when the scale is only
known from so many, (1 + excess / sum)^-n. With its scale taken for granted, two of ten clean models were flagged by a
calibration of the other nine. Many statistics are zero on most models and large on a few, which no exponential is: the
scale is at least what the largest excess says of it.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.special import gammaincc

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.detect.statistics import (
    EVERY,
    FIRST,
    MAP,
    MOST,
    OF_PATCHES,
    OF_WHOLE,
    PATCHES,
    PEAK,
    SEVERAL,
    SOURCE,
    TOGETHER,
    TONE,
    TRIED,
    WHOLE,
    Claim,
)
from onnx_shapprune.detect.thresholds import (
    ENDS,
    ENDS_UNSURE,
    FEWEST_MODELS,
    KIND_LEAST,
    LEAST_SCALE,
    MAP_SCALE,
    OF_APART,
    OF_EVERY,
    OF_KIND,
    SAME_MARGINS,
    SPEAKS,
    TAIL_FROM,
    TONE_SCALE,
    WELL_KNOWN,
)
from onnx_shapprune.errors import DataError

# A peak's value is -log10 of a p-value, which under its own model falls off as fast.
SCALES = {PEAK: 1 / math.log(10), MAP: MAP_SCALE, TONE: TONE_SCALE}
APART = (SOURCE, MAP)  # statistics about several classes
GROUPS = (SEVERAL, MOST)  # statistics about classes that are reached together
NOT_ADDED = (*APART, *GROUPS, *TRIED, FIRST, EVERY)
SUMS = (TOGETHER, OF_PATCHES)
DIGITS = 4  # of values: an audit of a model that the calibration was made on is not beyond it
Value = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]


class Domain(BaseModel):
    """Of which models a calibration speaks, smallest and largest: number of classes, edge of the pictures in pixels. drawn:
    pictures at least that were drawn out of each of them where none were given; given: that were given, where they were;
    None: that is not known. begun: edges of those of which first rounds are known, where these are others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[int, int]
    pixels: tuple[int, int]
    drawn: int | None = None
    given: int | None = None
    begun: tuple[int, int] | None = None

    def outside(
        self, classes: int, size: tuple[int, int], drawn: int | None = None, *, first: bool = False
    ) -> tuple[str, ...]:
        """In what a model differs from those, in words. size: height and width of its pictures; drawn: how many of them
        came out of the model, None where they were given; first: from those of which first rounds are known.
        """
        words = []
        least, most = (self.begun if first else None) or self.pixels
        if not self.classes[0] <= classes <= self.classes[1]:
            words.append(f"{classes} classes, and {self.classes[0]} to {self.classes[1]} were calibrated on")
        if not (least <= min(size) and max(size) <= most):
            words.append(f"{size[0]} x {size[1]} pixels, and {least} to {most} were calibrated on")
        said = [f"the model has {w} (calibrate on clean models like it)" for w in words]
        if drawn is not None and self.drawn is not None and drawn < self.drawn:
            said.append(
                f"only {drawn} pictures could be drawn out of the model, and {self.drawn} or more were calibrated on (give "
                "pictures)"
            )
        return tuple(said)


class Calibration(BaseModel):
    """version: of what the statistics are. about: on what it was made, in words. pictures, synthesised: statistic -> its
    largest value in each audit of a clean model, with pictures and with those that were drawn out of the model; SUMS are
    among them where claims about one class are added up. strongest, strongest_synthesised: the smallest p-value of what
    decides about each of these models, by the others; too few of them leave p-values to be corrected for the number of
    statistics (Sidak, JASA 1967). few, many: the same of models with fewer classes, of which natural leads are larger, and
    with many more; None: they are held against these too. large: the same of models with larger pictures, which more pixels
    move further: what of theirs is most unusual (strongest), beside the values that all models reach. more: the same of
    audits with more pictures than one a class (`domain.given`), of which what is natural moves less. domain: None where it
    is not known: then nothing is said about models that are unlike the calibration's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = 2
    about: str
    pictures: dict[str, tuple[Value, ...]]
    synthesised: dict[str, tuple[Value, ...]] = {}
    strongest: tuple[Share, ...] = ()
    strongest_synthesised: tuple[Share, ...] = ()
    domain: Domain | None = None
    few: "Calibration | None" = None
    many: "Calibration | None" = None
    large: "Calibration | None" = None
    more: "Calibration | None" = None

    def of(self, classes: int, edge: int, given: int = 0) -> "Calibration":
        """The part that speaks of models with so many classes and pictures with such a longer edge in pixels, of which so
        many were given.
        """
        part = self
        if self.few is not None and self.few.domain is not None and classes <= self.few.domain.classes[1]:
            part = self.few
        elif self.many is not None and self.many.domain is not None and classes >= self.many.domain.classes[0]:
            part = self.many
        if part.domain is not None and edge > part.domain.pixels[1]:
            return part.large or part
        wanted = part.wanted
        return part.more if part.more is not None and wanted is not None and given >= wanted else part

    @property
    def wanted(self) -> int | None:
        """Pictures from which on another part speaks, which sees more; None where there is none."""
        return self.more.domain.given if self.more is not None and self.more.domain is not None else None

    @property
    def digest(self) -> str:
        """sha256 of what it says, whatever its file looks like."""
        return hashlib.sha256(calibration_text(self).encode()).hexdigest()

    def outside(
        self, classes: int, size: tuple[int, int], drawn: int | None = None, *, first: bool = False
    ) -> tuple[str, ...]:
        """In what a model differs from those that the calibration was made on, in words; as `Domain.outside`."""
        domain = self.of(classes, max(size)).domain
        return domain.outside(classes, size, drawn, first=first) if domain else ()

    def rated(self, claims: Sequence[Claim], *, synthesised: bool = False) -> list[tuple[Claim, float]]:
        """Claims of one audit, the most unusual first, each with the share of clean models, 0..1, that would show anything
        as unusual; 1 for an unknown statistic. Where claims about a class are added up, those that speak for it (SPEAKS)
        have what all of them show together.
        """
        adds = TOGETHER in (self.synthesised if synthesised else self.pictures)
        alone = [self.alone(c, synthesised=synthesised) for c in claims]
        about = _about(claims, alone)
        sums = {(s.goal, s.statistic): self.alone(s, synthesised=synthesised) for s in _sums(about)}
        rated = []
        for claim, own in zip(claims, alone, strict=True):
            if claim.statistic == FIRST:
                p = own
            elif claim.statistic in (*APART, *GROUPS, *TRIED):
                p = min(1.0, own / OF_APART)
            elif claim.statistic == EVERY:
                said = self._of_model(min(sums.get((claim.goal, s), 1.0) for s in SUMS), synthesised=synthesised)
                p = min(1.0, both(own, said) / OF_EVERY) if own < 1 else 1.0
            elif not adds:
                p = self._of_model(own, synthesised=synthesised)
            else:
                of_sums = {name: sums[claim.goal, name] for name in _counts_in(claim.statistic)}
                of_kind = max(of_sums.pop(OF_WHOLE, 1.0) / OF_KIND, KIND_LEAST)
                p = min(self._of_model(min(of_sums.values()), synthesised=synthesised), of_kind)
                # A peak is reached without a picture: what few pictures show must not pass for it.
                strongest = min(p for _, p in about[claim.goal])
                speaks = claim.statistic != PEAK and own <= max(SPEAKS, strongest) and own < 1
                p = p if speaks else max(p, own)
            rated.append((claim, p, own))
        return [(c, p) for c, p, _ in sorted(rated, key=lambda r: r[1:])]

    def usual(self, first: Claim, others: Sequence[Claim] = (), *, synthesised: bool = False) -> bool:
        """Whether more than ENDS of the clean models show as much in the first rounds, or ENDS_UNSURE where few are known;
        False where none are. others: of the same rounds, with lines of their own: of groups what clean models show in the
        last ones is known; what is tried has no more rounds, and of it the p-value counts that its claim would have.
        """
        known = (self.synthesised if synthesised else self.pictures).get(FIRST, ())
        share = self.alone(first, synthesised=synthesised) if known else 0.0
        shares = (self.alone(c, synthesised=synthesised) / (OF_APART if c.statistic in TRIED else 1) for c in others)
        return share > (ENDS if len(known) >= WELL_KNOWN else ENDS_UNSURE) and min(shares, default=1.0) > ENDS

    def sums(self, claims: Sequence[Claim]) -> list[Claim]:
        """What claims of one audit say about each class: a claim for each of the SUMS and the strongest of the WHOLE."""
        return _sums(_about(claims, [self.alone(c) for c in claims]))

    def _of_model(self, p: float, *, synthesised: bool) -> float:
        """The share of clean models of which anything is as unusual as what has this p-value, 0..1."""
        if p == 1:
            return 1.0
        known = np.asarray(self.strongest_synthesised if synthesised else self.strongest)
        if len(known) < FEWEST_MODELS:
            several = len(_deciding(self.synthesised if synthesised else self.pictures))
            return max(p, -math.expm1(several * math.log1p(-p)))
        strongest, value = -np.log10(known), -math.log10(p)
        share = reached(strongest, value)
        beyond = min(share, rarity(strongest, value, LEAST_SCALE)) if value > strongest.max() else share
        return max(p, beyond)

    def alone(self, claim: Claim, *, synthesised: bool = False) -> float:
        """How often a clean model would reach the claim's value in this one statistic, 0..1."""
        values = self.synthesised if synthesised and claim.statistic != PEAK else self.pictures  # peaks need no picture
        known = np.sort(np.asarray(values.get(claim.statistic, ()), np.float64)).round(DIGITS)
        value = round(claim.value, DIGITS)
        if len(known) < FEWEST_MODELS or value <= 0:
            return 1.0
        return rarity(known, value, SCALES.get(claim.statistic, LEAST_SCALE))


def both(p: float, other: float) -> float:
    """What two p-values say together that are made of the same margins, by Brown's method (Biometrics 1975): Fisher's, with
    the variance and the degrees of freedom that follow from their correlation (SAME_MARGINS). 0..1.
    """
    if p * other <= 0:
        return 0.0
    variance = 8 * (1 + SAME_MARGINS)  # of -2 log(p other), whose mean is 4
    return float(gammaincc(16 / variance, -2 * math.log(p * other) * 4 / variance))


def rarity(known: NDArray[np.float64], value: float, least: float) -> float:
    """How often a value to come is at least `value`, 0..1, by the known ones. least: the smallest scale of the tail."""
    known = np.sort(known)
    start = float(np.quantile(known, TAIL_FROM))
    count = math.ceil((1 - TAIL_FROM) * len(known))
    upper = known[-count:] - start
    largest_expected = float((1 / np.arange(1, count + 1)).sum())  # of so many exponential values, in scales
    scale = max(float(upper.mean()), float(upper[-1]) / largest_expected, least)
    tail = (1 - TAIL_FROM) * (1 + max(0.0, value - start) / (count * scale)) ** -count
    return tail if value > known[-1] else reached(known, value)


def reached(known: NDArray[np.float64], value: float) -> float:
    """The share of the known values, and the one to come, that are at least `value`."""
    return (1 + int((known >= value).sum())) / (len(known) + 1)


def load_calibration(path: Path | None) -> Calibration:
    """The user's calibration file, or the one that comes with the package. Raises DataError for a bad file."""
    try:
        text = (
            files("onnx_shapprune.detect").joinpath("calibration.json").read_text()
            if path is None
            else path.read_text()
        )
        known = Calibration.model_validate_json(text)
    except OSError as error:
        raise DataError(f"cannot read the calibration {path}: {error.strerror}") from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is no text"
        raise DataError(f"{path} is no calibration of shapprune calibrate: {first}") from None
    if "version" not in known.model_fields_set:
        raise DataError(f"the calibration {path} is of an earlier version, with other statistics: make it again")
    return known


def added(
    rows: Sequence[Mapping[str, float]],
    audits: Sequence[Sequence[Sequence[Claim]]],
    beside: Sequence[Mapping[str, float]] = (),
) -> list[dict[str, float]]:
    """Rows of clean models, as of `largest`, each with the largest sums of claims about one class in any of its `audits`, by
    a calibration of the other models. beside: rows of more such models.
    """
    made = []
    for i, (row, claimed) in enumerate(zip(rows, audits, strict=True)):
        others = Calibration(about="", pictures=columns([*beside, *(r for j, r in enumerate(rows) if j != i)]))
        sums = largest(s for claims in claimed for s in others.sums(claims))
        made.append({**row, **dict.fromkeys((*SUMS, OF_WHOLE), 0.0), **sums})
    return made


def strongest(rows: Sequence[Mapping[str, float]]) -> tuple[float, ...]:
    """For each clean model the smallest p-value of any of the statistics that decide, by a calibration of the other models.
    rows: the largest value of every statistic, a row a model, as of `largest` or `added`.
    """
    found = []
    for i, row in enumerate(rows):
        others = columns([r for j, r in enumerate(rows) if j != i])
        by = Calibration(about="", pictures=others)
        p_values = [by.alone(Claim(Goal(0), name, row[name], 0.0)) for name in _deciding(row)]
        found.append(round(min(p_values, default=1.0), 2 * DIGITS) or 10.0 ** (-2 * DIGITS))
    return tuple(found)


def _deciding(statistics: Iterable[str]) -> list[str]:
    """Those that decide together: the SUMS where there are any. What else decides has a line of its own."""
    names = list(statistics)
    return [n for n in names if n in SUMS] if TOGETHER in names else [n for n in names if n not in NOT_ADDED]


def _about(claims: Sequence[Claim], alone: Sequence[float]) -> dict[Goal, list[tuple[str, float]]]:
    """Statistics and p-values of the claims about each class that are added up."""
    found: dict[Goal, list[tuple[str, float]]] = {}
    for claim, p in zip(claims, alone, strict=True):
        if claim.statistic not in NOT_ADDED:
            found.setdefault(claim.goal, []).append((claim.statistic, p))
    return found


def _sums(about: Mapping[Goal, Sequence[tuple[str, float]]]) -> list[Claim]:
    """Each of the SUMS of what is said about each goal, and the strongest of the WHOLE."""
    made = []
    for goal, said in about.items():
        for name in (*SUMS, OF_WHOLE):
            parts = [-math.log10(p) for s, p in said if name in _counts_in(s)]
            made.append(Claim(goal, name, max(parts, default=0.0) if name == OF_WHOLE else sum(parts), 0.0))
    return made


def _counts_in(statistic: str) -> tuple[str, ...]:
    """What a statistic about one class counts in, beside itself."""
    return (TOGETHER, *(name for name, of in ((OF_PATCHES, PATCHES), (OF_WHOLE, WHOLE)) if statistic in of))


def largest(claims: Iterable[Claim]) -> dict[str, float]:
    """The largest value of every statistic in one audit."""
    row: dict[str, float] = {}
    for claim in claims:
        row[claim.statistic] = max(claim.value, row.get(claim.statistic, 0.0))
    return row


def columns(audits: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """Audits of clean models by statistic, as a calibration holds them. An audit counts for the statistics it has."""
    names = sorted({name for row in audits for name in row})
    return {n: tuple(round(r[n], DIGITS) for r in audits if n in r) for n in names}


def calibration_text(calibration: Calibration) -> str:
    """As it is written to a file."""
    return json.dumps(calibration.model_dump(mode="json", exclude_none=True), indent=1) + "\n"
