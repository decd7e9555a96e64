"""What was run, on which bytes, what was found, and what was skipped: the versioned record behind every report."""

from typing import Literal

from pydantic import Field

from onnx_shapprune.record.parts import (
    SCHEMA_VERSION,
    DataPart,
    Environment,
    FileDigest,
    FindingPart,
    Finite,
    ModelPart,
    Part,
    PValue,
    Rates,
    ThresholdsPart,
    UnitRef,
    Verdict,
)


class UnitValue(Part):
    """Shapley estimate of one unit in the dual game, with its standard error and 95 % normal interval.

    backdoor, clean: what the backdoor and the clean part of the game lose when this unit alone is switched off.
    """

    layer: str
    channel: int
    value: Finite
    standard_error: Finite
    interval: tuple[Finite, Finite]
    backdoor: Finite
    clean: Finite


class UnitsPart(Part):
    """total: prunable channels of the model; off: the ones switched off, in the order chosen; ranked: best first."""

    total: int
    layers: int
    off: tuple[UnitRef, ...] = ()
    ranked: tuple[UnitValue, ...] = ()


class CompactPart(Part):
    """Best square patch of one class: side in pixels, mean logit margin, ASR on the pictures of other classes.

    transfer: ASR on the half of the pictures that a patch was not learnt on; distance: the mean margin by which clean
    pictures miss the class.
    """

    side: int
    top: int
    left: int
    margin: Finite
    asr: Finite
    transfer: Finite | None = None
    distance: Finite | None = None


class FamilyPart(Part):
    """The best trigger of one family at its fixed budget, or the core of the compact patch: mean logit margin, ASR, and ASR
    on the half of the pictures that it was not learnt on. value: of the statistic (0 and more), p_value: how often clean
    models reach it; None where the class was not among the leaders.
    """

    family: str
    margin: Finite
    asr: Finite
    transfer: Finite | None = None
    value: Finite | None = None
    p_value: PValue | None = None


class ClaimPart(Part):
    """One statistic about one goal, whether it names it or not: its value (0 and more; see detect/statistics.py) and how
    often clean models reach it. targets, source: as in AttackPart. cautions: why it names nothing here, outside: how the
    model differs from those that the p-value comes from, in words. gone: share of the goal's lead, 0..1, that went when its
    triggers were unlearnt, null where that was not tried or did not work.
    """

    statistic: str
    kind: Literal["all-to-one", "source-specific", "all-to-all"]
    targets: tuple[int, ...]
    source: int | None = None
    value: Finite
    p_value: PValue
    cautions: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    gone: Finite | None = None


class AttackPart(Part):
    """A backdoor that was named or is suspected. kind "all-to-one": every class goes to the only one of `targets`;
    "source-specific": class `source` does; "all-to-all": class y goes to mapping[y]. families: that found it; p_value: of
    the strongest claim, of one that was named the strongest that names it.
    """

    kind: Literal["all-to-one", "source-specific", "all-to-all"]
    targets: tuple[int, ...]
    source: int | None = None
    mapping: tuple[int, ...] = ()
    families: tuple[str, ...] = ()
    p_value: PValue
    reasons: tuple[str, ...] = ()


class ClassPart(Part):
    """Evidence about one target class.

    norm: smallest L1 mask norm with success over restarts, None where no search succeeded; asr: of that trigger on the
    few-shot pictures of other classes; index: MAD anomaly index of norm (low side), None without a basis; success:
    whether any search reached the ASR; norms: one per restart. margin_index: anomaly index of the compact margin (high
    side). families: triggers at a fixed budget; score: -log10 of the smallest p-value of any evidence. suspicious:
    whether the evidence names this class a target; reasons: in words.
    """

    index_of_class: int
    name: str
    norm: Finite | None
    asr: Finite
    index: Finite | None
    success: bool
    norms: tuple[Finite, ...] = ()
    compact: tuple[CompactPart, ...] = ()
    margin_index: Finite | None = None
    families: tuple[FamilyPart, ...] = ()
    score: Finite | None = None
    suspicious: bool = False
    reasons: tuple[str, ...] = ()


class TriedPart(Part):
    """A clean picture and the same one with a trigger on it, PNG in base64, and what the model answers to each: the class
    and its softmax probability. label: the class that the picture is taken to show.
    """

    label: int
    clean: str
    clean_class: int
    clean_probability: Finite
    applied: str
    applied_class: int
    applied_probability: Finite


class TriggerPart(Part):
    """A recovered trigger to look at. kind, targets, source: its goal, as in AttackPart; named: whether it speaks for a
    backdoor that was named, else it is the best patch of a leading class. norm: its size in pixels. on_file: the share of
    some pictures that it leads to its goal on the original file, asked one at a time and in whole bytes; null where that was
    not asked.

    mask, pattern: PNG in base64, one pixel per pixel of the model's input, or per block of `reduced` x `reduced`. added: the
    pattern is added to the picture (drawn around grey, stretched) and covers nothing of it. warps: the picture is warped, as
    the pattern, a grid, is.
    """

    kind: Literal["all-to-one", "source-specific", "all-to-all"]
    targets: tuple[int, ...]
    source: int | None = None
    family: str
    named: bool
    added: bool
    warps: bool = False
    norm: Finite
    on_file: Finite | None = None
    reduced: int = 1
    mask: str
    pattern: str
    tried: tuple[TriedPart, ...] = ()


class RoundPart(Part):
    """One step of a repair: units switched off so far, and what the search on the file then found. clean_cost: accuracy
    that unseen pictures are estimated to lose, from how far the logits moved, or after a realignment from pictures that a
    fit was kept from; no `surely_lost`. strength: what a clean row weighed against a triggered one, null without a fit.
    """

    off: int
    acc: Finite
    known_asr: Finite
    clean_cost: Finite
    margin: Finite | None = None
    asr: Finite | None = None
    still_found: bool
    strength: Finite | None = None
    note: str = ""


class LayerChange(Part):
    """A linear layer with other weights. change: |N - W| / |W|, in the Frobenius norm; of its biases
    too where two files were compared.
    """

    layer: str
    change: Finite


class RealignedPart(LayerChange):
    """A layer that was realigned. rank: of N - W."""

    op: str
    rank: int


class InversePart(Part):
    """What the units that were switched off can do when only they are left in their layers (IMS). Shares in 0..1: asr, of
    the best trigger; idle, how many of its pictures reach the target without it; acc, of the clean pictures.
    """

    asr: Finite
    idle: Finite
    acc: Finite


class RepairPart(Part):
    """status: "repaired", "not_repaired", "nothing_to_repair" or "not_tried"; reason in words; rounds in order.

    method: what was done to the file that the rest is about. layers: those with other weights. masked_vs_baked: largest
    logit difference between the plan, as it was attacked, and the written file. output_external: the files written beside
    it, with the weights of a model that keeps them outside. claims: of the audit of the repaired file. inverse: of the units
    that are off, null where none are, or where layers have other weights too.
    """

    status: Literal["repaired", "not_repaired", "nothing_to_repair", "not_tried"]
    reason: str
    method: Literal["prune", "realign", "both", "cut"] | None = None
    layers: tuple[RealignedPart, ...] = ()
    rounds: tuple[RoundPart, ...] = ()
    masked_vs_baked: Finite | None = None
    output: FileDigest | None = None
    output_external: tuple[FileDigest, ...] = ()
    claims: tuple[ClaimPart, ...] = ()
    inverse: InversePart | None = None


class EstimatePart(Part):
    """How the Shapley values were estimated. discard_threshold, epsilon: null where the method does not use them.

    value: what a coalition was worth; clean_weight: of the value "dual", else 0. stopped: what ended it, "samples"
    (all that were to be taken), "evaluations" or "seconds" (the budget), "separated" or "enumerated". separated: the units
    that "top-k" places among its k best with confidence.
    """

    method: str
    value: str = "dual"
    players: int
    permutations: int
    evaluations: int
    discarded_walks: int
    zeroed_share: Finite
    discard_threshold: Finite | None
    epsilon: Finite | None
    clean_weight: Finite
    full_value: Finite
    end_value: Finite
    stopped: str | None = None
    separated: tuple[UnitRef, ...] = ()


class AuditRecord(Part):
    """One audit, and the repair where one was asked for. doubts: all that stands against a pass, beside reasons to fail too;
    suspects: what stands out and is not named; thresholds: what decided; score: -log10 of the p-value of the whole model;
    claims: all evidence, the most unusual first; alone: of one file among many, the call that does the same to it;
    calibration: on which clean models it rests, with the sha256 of what it says; not_searched: what was left out, in
    words; triggers: as many as fit; findings: about the file itself; first_rounds: what the first rounds of all searches
    say, null with few classes; a claim "first" says that the search of single classes ended with them.
    """

    schema_version: str = SCHEMA_VERSION
    tool: Literal["onnx-shapprune"] = "onnx-shapprune"
    created: str
    command: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    seed: int
    verdict: Verdict
    reasons: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    target_classes: tuple[int, ...] = ()
    score: Finite | None = None
    not_searched: tuple[str, ...] = ()
    attacks: tuple[AttackPart, ...] = ()
    suspects: tuple[AttackPart, ...] = ()
    claims: tuple[ClaimPart, ...] = ()
    thresholds: ThresholdsPart | None = None
    calibration: str = ""
    calibration_sha256: str = ""
    model: ModelPart
    data: DataPart
    preprocessing: dict[str, object]
    settings: dict[str, object]
    classes: tuple[ClassPart, ...] = ()
    triggers: tuple[TriggerPart, ...] = ()
    units: UnitsPart
    estimate: EstimatePart | None = None
    before: Rates
    after: Rates | None = None
    repair: RepairPart
    artifacts: tuple[FileDigest, ...] = ()
    evaluations: int = 0
    gradient_pictures: int = 0
    first_rounds: Finite | None = None
    seconds: dict[str, Finite] = Field(default_factory=dict)
    peak_memory_mb: Finite | None = None
    warnings: tuple[str, ...] = ()
    findings: tuple[FindingPart, ...] = ()
    environment: Environment


class VerifyRecord(Part):
    """Comparison of two files. changed: constants whose bytes differ; zeroed: units that are off in `after` only;
    realigned: linear layers that have other weights beside that; other_changes: anything in the graph beyond those
    constants; verdict and reasons as in an audit. after_external: data files of the second; classes, attacks,
    suspects, claims: of a search on it; repaired_classes: targets that the first is named for; clean_cost: the older name
    of `after.surely_lost`; doubts, thresholds, calibration: as in an audit.
    """

    schema_version: str = SCHEMA_VERSION
    tool: Literal["onnx-shapprune"] = "onnx-shapprune"
    created: str
    command: tuple[str, ...] = ()
    seed: int
    verdict: Verdict
    reasons: tuple[str, ...]
    before_model: FileDigest
    after_model: FileDigest
    after_external: tuple[FileDigest, ...] = ()
    data: DataPart | None = None
    settings: dict[str, object] = Field(default_factory=dict)
    changed: tuple[str, ...] = ()
    zeroed: tuple[UnitRef, ...] = ()
    realigned: tuple[LayerChange, ...] = ()
    other_changes: tuple[str, ...] = ()
    repaired_classes: tuple[int, ...] = ()
    agreement: Finite
    before: Rates
    after: Rates
    clean_cost: Finite | None = None
    classes: tuple[ClassPart, ...] = ()
    doubts: tuple[str, ...] = ()
    target_classes: tuple[int, ...] = ()
    not_searched: tuple[str, ...] = ()
    attacks: tuple[AttackPart, ...] = ()
    suspects: tuple[AttackPart, ...] = ()
    claims: tuple[ClaimPart, ...] = ()
    thresholds: ThresholdsPart | None = None
    calibration: str = ""
    calibration_sha256: str = ""
    seconds: dict[str, Finite] = Field(default_factory=dict)
    environment: Environment
