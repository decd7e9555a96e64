"""One model and its pictures, opened once: everything that the stages of an audit share."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from onnx_shapprune.case.reach import reach_of
from onnx_shapprune.case.subject import Labels, Pixels, Subject
from onnx_shapprune.case.synthesis import SynthesisSettings, synthesise
from onnx_shapprune.errors import DataError, ModelError
from onnx_shapprune.graph.canonical import canonical
from onnx_shapprune.graph.file import ModelFile, load_model
from onnx_shapprune.graph.interface import Interface, find_interface
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.provenance.oddities import Oddity, oddities
from onnx_shapprune.graph.units import Units, find_units
from onnx_shapprune.pictures.few_shot import FewShot, few_per_class, load_class_names, load_pictures
from onnx_shapprune.pictures.preprocess import Preprocessing
from onnx_shapprune.runtime.session import Device, resolve_device
from onnx_shapprune.settings import InputOptions, RunOptions

Progress = Callable[[str, int, int, str], None]
SYNTHESISED = 24
MAX_INPUT = 1 << 26  # values


@dataclass(slots=True)
class Clock:
    """Seconds per stage, in the order in which the stages ran."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that is ready to be searched: parsed, prepared, its units found, its sessions open. oddities: what in its graph
    can decide an answer by itself.
    """

    file: ModelFile
    interface: Interface
    units: Units
    subject: Subject
    oddities: tuple[Oddity, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """An opened model with clean pictures. pictures: float32 [n, h, w, c] in 0..255; labels: int64 [n], the given ones
    or the model's own answers (few.label_source says which).
    """

    model: Opened
    few: FewShot
    pictures: Pixels
    labels: Labels
    class_names: tuple[str, ...]
    device: Device

    @property
    def labels_given(self) -> bool:
        """Whether somebody but the model said what the pictures show."""
        return self.few.label_source not in ("model", "synthesised")


def open_model(path: Path, inputs: InputOptions, device: Device) -> Opened:
    """Load, check and prepare a model file. Raises ModelError, VerifyError or DataError."""
    file = load_model(path, limits=inputs.limits, allow_root=inputs.allow_root)
    interface = find_interface(file.loaded, layout=inputs.layout, output=inputs.output, size=inputs.size)
    if None in interface.dims:
        raise ModelError(
            f"the model leaves its picture size open (input {interface.input!r} is {interface.dims}): "
            "say which one with --input-size HEIGHT WIDTH"
        )
    shape = tuple(d for d in interface.dims if d is not None)
    if math.prod(shape) * (interface.batch or 1) > MAX_INPUT:
        batch = [interface.batch or "N", *shape]
        raise ModelError(f"the model takes inputs of {batch}: more than {MAX_INPUT:,} values are no pictures")
    units = find_units(file.loaded, interface.output)
    prepared = canonical(prepare(file.loaded, interface, shape, device), device)
    known = tuple(layer for layer in units.layers if layer.tensor in prepared.infos)
    preprocessing = Preprocessing(
        input_range=inputs.input_range,
        mean=inputs.mean,
        std=inputs.std,
        layout=interface.layout,
        channel_order="BGR" if inputs.channel_order == "BGR" else "RGB",
    )
    subject = Subject(prepared, preprocessing, device)
    return Opened(file, interface, replace(units, layers=known), subject, oddities(file.loaded, interface))


def open_case(model: Path, data: Path | None, inputs: InputOptions, run: RunOptions) -> Case:
    """Open a model and its pictures; pictures without labels get the model's own answers, and without `data` they are
    drawn out of the model.
    """
    device = resolve_device(run.device, threads=run.threads, memory=run.max_memory << 20)
    opened = open_model(model, inputs, device)
    names = load_class_names(inputs.class_names) if inputs.class_names else ()
    interface = opened.interface
    if interface.height is None or interface.width is None or interface.channels not in (1, 3):
        raise ModelError(f"the picture size of input {interface.input!r} is not known")
    size = (interface.height, interface.width)
    if data is None:
        few = _synthesised(opened.subject, (*size, interface.channels), run.seed)
    else:
        few = load_pictures(
            data,
            size=size,
            channels=interface.channels,
            resize=inputs.resize,
            labels=names or None,
            classes=opened.subject.classes,
            per_class=inputs.per_class,
        )
    pictures = few.x.astype(np.float32)
    logits = opened.subject.logits(pictures)
    if not np.isfinite(logits).all():
        raise ModelError("the model answers NaN or infinity on the pictures: check --input-range, --mean and --std")
    if few.y is None:
        few = replace(few, y=logits.argmax(1).astype(np.int64), label_source="model")
        if inputs.per_class:
            few = few_per_class(few, inputs.per_class)
            pictures = few.x.astype(np.float32)
    if few.y is None:
        raise DataError("the pictures have no labels")
    if reach := reach_of(opened.subject, pictures, few.y):
        opened = replace(opened, subject=opened.subject.within(reach))
    return Case(opened, few, pictures, few.y, names, device)


def _synthesised(subject: Subject, size: tuple[int, int, int], seed: int) -> FewShot:
    """One picture of each class, or of SYNTHESISED random ones where there are more."""
    if subject.obstacle:
        raise DataError(f"pictures are drawn out of a model by gradients; give some with --data ({subject.obstacle})")
    rng = np.random.default_rng(seed)
    classes = np.arange(subject.classes)
    if len(classes) > SYNTHESISED:
        classes = np.sort(rng.choice(classes, SYNTHESISED, replace=False))
    pictures, labels = synthesise(subject, size, classes.tolist(), SynthesisSettings(), rng)
    if not len(pictures):
        raise DataError("no picture of any class could be drawn out of the model: give some with --data")
    x = pictures.round().astype(np.uint8)
    names = tuple(f"synthesised {c}" for c in labels.tolist())
    return FewShot(x=x, y=labels, names=names, label_source="synthesised")
