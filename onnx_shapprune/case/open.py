"""One model and its pictures, opened once: everything that the stages of an audit share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from onnx_shapprune.case.reach import reach_of
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Labels, Pixels, Subject, Work
from onnx_shapprune.case.synthesis import SynthesisSettings, synthesise
from onnx_shapprune.errors import DataError, ModelError
from onnx_shapprune.graph.canonical import Reach, canonical
from onnx_shapprune.graph.classifier import read_classifier
from onnx_shapprune.graph.file import ModelFile, load_model
from onnx_shapprune.graph.interface import WHOLE, Interface
from onnx_shapprune.graph.prepare import Prepared, prepare
from onnx_shapprune.graph.provenance.flow import Provenance
from onnx_shapprune.graph.provenance.oddities import Oddity, oddities_of, provenance_of
from onnx_shapprune.graph.units import Refused, Units
from onnx_shapprune.pictures.few_shot import FewShot, few_per_class, folder_class_names, load_class_names, load_pictures
from onnx_shapprune.pictures.labels import labelled
from onnx_shapprune.pictures.preprocess import Preprocessing
from onnx_shapprune.runtime.session import Device, resolve_device
from onnx_shapprune.settings import InputOptions, RunOptions

SYNTHESISED = 24
# Pictures at least that are drawn: of few classes several each. Of two that are one a class, each goal is missed by one.
DRAWN = 10


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
    """A file that is ready to be searched: parsed, prepared, its units found, its sessions open. followed: the way of the
    picture through the file; oddities: what on it can decide an answer by itself.
    """

    file: ModelFile
    interface: Interface
    units: Units
    subject: Subject
    followed: Provenance
    oddities: tuple[Oddity, ...]

    def within(self, reach: Reach | None) -> "Opened":
        """The same, of whose classes only those that something reaches are searched and compared."""
        return replace(self, subject=self.subject.within(reach))


@dataclass(frozen=True, slots=True)
class Case:
    """An opened model with clean pictures. shown: these, with the labels that were given or the model's own answers
    (few.label_source says which).
    """

    model: Opened
    few: FewShot
    shown: Shown
    class_names: tuple[str, ...]
    device: Device

    @property
    def pictures(self) -> Pixels:
        return self.shown.pictures

    @property
    def labels(self) -> Labels:
        return self.shown.labels

    @property
    def labels_given(self) -> bool:
        """Whether somebody but the model said what the pictures show."""
        return self.few.label_source not in ("model", "synthesised")


def open_model(path: Path, inputs: InputOptions, device: Device, work: Work | None = None) -> Opened:
    """Load, check and prepare a model file. work: as for Subject. Raises ModelError, VerifyError or DataError."""
    file = load_model(path, limits=inputs.limits, allow_root=inputs.allow_root)
    found = read_classifier(file.loaded, inputs.limits, layout=inputs.layout, output=inputs.output, size=inputs.size)
    interface, units = found.interface, found.units
    if found.reason or interface is None or units is None:
        raise ModelError(found.reason)
    if None in interface.dims:
        raise ModelError(
            f"the model leaves its picture size open (input {interface.input!r} is {interface.dims}): "
            + (
                "say which one with --input-size HEIGHT WIDTH"
                if None in (interface.height, interface.width)
                else "no convolution says how many channels there are"
            )
        )
    shape = tuple(d for d in interface.dims if d is not None)
    prepared = canonical(prepare(file.loaded, interface, shape, device), device)
    units = _in_copy(units, prepared)
    preprocessing = Preprocessing(
        input_range=_range(interface, inputs),
        mean=inputs.mean,
        std=inputs.std,
        layout=interface.layout,
        channel_order="BGR" if inputs.channel_order == "BGR" else "RGB",
    )
    subject = Subject(prepared, preprocessing, device, work)
    followed = provenance_of(file.loaded, interface)
    odd = oddities_of(followed, [o.name for o in file.loaded.graph.output])
    return Opened(file, interface, units, subject, followed, odd)


def _range(interface: Interface, inputs: InputOptions) -> tuple[float, float]:
    """What bytes 0 and 255 become. Raises DataError where a model takes them as they are and options say otherwise."""
    if interface.scaled:
        return inputs.input_range
    whole, usual = WHOLE[interface.dtype], InputOptions()
    if (inputs.mean, inputs.std) != (usual.mean, usual.std) or inputs.input_range not in (usual.input_range, whole):
        raise DataError(
            f"the model takes pictures of {interface.dtype}, which are not scaled: leave out --input-range, --mean and --std"
        )
    return whole


def _in_copy(units: Units, prepared: Prepared) -> Units:
    """The units by the names of the working copy; a layer whose tensor it does not have is refused, and says so."""
    layers = [replace(la, tensor=prepared.renamed.get(la.tensor, la.tensor)) for la in units.layers]
    lost = [
        Refused(la.name, la.op, "its output is not computed as such")
        for la in layers
        if la.tensor not in prepared.infos
    ]
    known = tuple(la for la in layers if la.tensor in prepared.infos)
    return replace(units, layers=known, refused=(*units.refused, *lost))


def open_case(model: Path, data: Path | None, inputs: InputOptions, run: RunOptions) -> Case:
    """Open a model and its pictures; pictures without labels get the model's own answers, and without `data` they are
    drawn out of the model.
    """
    device = resolve_device(run.device, threads=run.threads, memory=run.max_memory << 20)
    opened = open_model(model, inputs, device)
    names = load_class_names(inputs.class_names) if inputs.class_names else ()
    if data is None:
        few = _synthesised(opened.subject, picture_size(opened), run.seed)
    else:
        few = given_pictures(opened, data, inputs, names)
    pictures = few.x.astype(np.float32)
    logits = opened.subject.logits(pictures)
    if not np.isfinite(logits).all():
        raise ModelError("the model answers NaN or infinity on the pictures: check --input-range, --mean and --std")
    if few.y is None:
        few = replace(few, y=logits.argmax(1).astype(np.int64), label_source="model")
        if inputs.per_class:
            few = few_per_class(few, inputs.per_class)
            pictures = few.x.astype(np.float32)
            logits = opened.subject.logits(pictures)
    if few.y is None:
        raise DataError("the pictures have no labels")
    shown = Shown(opened.subject, pictures, few.y, logits)
    if reach := reach_of(opened.subject, pictures, few.y):
        opened = opened.within(reach)
        shown = shown.on(opened.subject)
    return Case(opened, few, shown, names or folder_class_names(few, opened.subject.classes), device)


def picture_size(opened: Opened) -> tuple[int, int, int]:
    """Height, width and channels of the model's pictures. Raises ModelError where they are not known."""
    interface = opened.interface
    if interface.height is None or interface.width is None or interface.channels not in (1, 3):
        raise ModelError(f"the picture size of input {interface.input!r} is not known")
    return interface.height, interface.width, interface.channels


def given_pictures(opened: Opened, data: Path, inputs: InputOptions, names: tuple[str, ...]) -> FewShot:
    """The pictures of a path as this model takes them, with the labels that come with them. names: of the classes."""
    *size, channels = picture_size(opened)
    classes = opened.subject.classes
    found = load_pictures(
        data,
        size=(size[0], size[1]),
        channels=channels,
        resize=inputs.resize,
        labels=names or None,
        classes=classes,
        per_class=inputs.per_class,
    )
    if inputs.labels is None:
        return found
    found = labelled(found, inputs.labels, names, classes)
    return few_per_class(found, inputs.per_class) if inputs.per_class else found


def unlabelled_pictures(opened: Opened, inputs: InputOptions) -> Pixels:
    """The pictures beside the given ones, float32 [n, h, w, c] in 0..255; none where none were named. Raises DataError."""
    *size, channels = picture_size(opened)
    if inputs.unlabelled is None:
        return np.zeros((0, *size, channels), np.float32)
    found = load_pictures(inputs.unlabelled, size=(size[0], size[1]), channels=channels, resize=inputs.resize)
    return found.x.astype(np.float32)


def _synthesised(subject: Subject, size: tuple[int, int, int], seed: int) -> FewShot:
    """One picture of each class, of SYNTHESISED random ones where there are more, and of few as many each as make DRAWN."""
    if subject.obstacle:
        raise DataError(f"pictures are drawn out of a model by gradients; give some with --data ({subject.obstacle})")
    rng = np.random.default_rng(seed)
    classes = np.arange(subject.classes)
    if len(classes) > SYNTHESISED:
        classes = np.sort(rng.choice(classes, SYNTHESISED, replace=False))
    classes = np.tile(classes, -(-DRAWN // len(classes)))
    pictures, labels = synthesise(subject, size, classes.tolist(), SynthesisSettings(), rng)
    if not len(pictures):
        raise DataError("no picture of any class could be drawn out of the model: give some with --data")
    x = pictures.round().astype(np.uint8)
    names = tuple(f"synthesised {c}" for c in labels.tolist())
    return FewShot(x=x, y=labels, names=names, label_source="synthesised")
