"""Which preparation of the pictures fits a model, as `shapprune fit` found it."""

from typing import Literal

from onnx_shapprune.record.parts import SCHEMA_VERSION, FileDigest, Finite, Part


class FitRow(Part):
    """One setting. options: to give to any command, "" for the defaults; name, source: what it is and where it comes from.

    right: pictures that get their label; accuracy: their share, 0..1, bounds: its one-sided 95 % bounds; likelihood: mean
    log probability of the labels. Without labels these are None, and confidence, on_noise, agreement are means: of the
    largest probability on the pictures and on their shuffled pixels, 0..1, and of answers that small changes keep, corrected
    for chance, 1 at most. failed: the model answers NaN or infinity.
    """

    name: str
    source: str
    options: str
    input_range: tuple[Finite, Finite]
    mean: tuple[Finite, ...]
    std: tuple[Finite, ...]
    layout: Literal["NCHW", "NHWC"]
    channel_order: Literal["RGB", "BGR"]
    right: int | None = None
    accuracy: Finite | None = None
    bounds: tuple[Finite, Finite] | None = None
    likelihood: Finite | None = None
    confidence: Finite | None = None
    on_noise: Finite | None = None
    agreement: Finite | None = None
    failed: bool = False


class StatedPart(Part):
    """A key of the file's metadata that is about pictures or classes, with the beginning of its value."""

    key: str
    value: str


class FitRecord(Part):
    """rows: all settings that were tried, the best first. best: the first one where it fits, or as a guess, else None.

    alike: rows, counted from 0, that these pictures do not tell from it; none_fits: none does, of pictures with labels, or
    the model answers none with numbers; guess: there were no labels. metadata: what the file says about its pictures, which
    nobody checked; class_names: the same.
    """

    schema_version: str = SCHEMA_VERSION
    tool: Literal["onnx-shapprune"] = "onnx-shapprune"
    version: str
    created: str
    command: tuple[str, ...] = ()
    model: FileDigest
    classes: int
    pictures: int
    digest: str
    label_source: Literal["given", "folder", "none"]
    rows: tuple[FitRow, ...]
    best: FitRow | None
    alike: tuple[int, ...] = ()
    none_fits: bool = False
    guess: bool = False
    reason: str
    metadata: tuple[StatedPart, ...] = ()
    class_names: tuple[str, ...] = ()
