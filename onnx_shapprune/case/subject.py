"""The model under search: pictures in raw pixel space in, logits and pixel gradients out.

A trigger is searched where an attacker would put it, in the picture's bytes 0..255; preprocessing lies between those
and the graph's input, so its adjoint is applied to every gradient.
"""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from threading import Lock, RLock
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.autodiff.loss import attack_gradient
from onnx_shapprune.errors import ModelError, UnsupportedOpError
from onnx_shapprune.graph.canonical import Reach, rescored
from onnx_shapprune.graph.cost import activation_bytes
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.pictures.preprocess import Preprocessing, pull_back, to_input
from onnx_shapprune.runtime.cuda import total_memory
from onnx_shapprune.runtime.lanes import in_lane, in_order, lanes_of, session_beside, side_by_side
from onnx_shapprune.runtime.memory import give_back
from onnx_shapprune.runtime.session import CPU, Device, Session
from onnx_shapprune.runtime.weights import beside, elsewhere, filled, held, in_common, shell, weight_bytes

if TYPE_CHECKING:  # onnx stays inside runtime/, graph/ and autodiff/
    import onnx

Pixels = NDArray[np.float32]
Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Result = TypeVar("Result")

# Larger batches gain nothing, and a gradient keeps the activations of all its pictures.
BATCH = 64
# On a CPU a gradient is fastest where the activations of a batch stay in its cache, unless there are more weights to
# fetch for each batch than that. Measured: 64 pictures of a MobileNetV2 at once take 1.5 times as long as one by one.
CACHE = 6 << 20
BATCH_SHARE = 1 / 8  # of the memory, for a batch's activations; the gradient holds about three times as much
# On a GPU small batches leave most of it idle, and cuDNN plans anew for every shape: batches are filled up to one of these.
SIZES = (16, 64, 256)
GPU_SHARE = 1 / 32  # of the memory of a GPU, where workspaces and other sessions lie too


@dataclass(slots=True)
class Work:
    """What was computed so far, on a model and on all that are derived from it. pictures: that went through a network,
    forward or both ways; coalitions: that a game was played on.
    """

    pictures: int = 0
    coalitions: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def shown(self, pictures: int) -> None:
        """Count pictures, in whichever thread."""
        with self._lock:
            self.pictures += pictures


class Subject:
    """One prepared model with its sessions. Pictures are float32 [n, h, w, c] in 0..255, logits float32 [n, classes].

    work: a count to go on with, that of the model from which this one was made; None begins a new one. reach: which
    classes are searched and compared, and how scores are rescaled; None: all, as they are.
    """

    def __init__(
        self,
        prepared: Prepared,
        preprocessing: Preprocessing,
        device: Device,
        work: Work | None = None,
        reach: Reach | None = None,
    ) -> None:
        self.reach = reach
        prepared = prepared if reach is None else rescored(prepared, reach)
        self.classes = prepared.classes
        self.reachable = tuple(range(prepared.classes)) if reach is None else reach.classes
        self._prepared = prepared
        self._original: onnx.ModelProto | None = None  # that has the weights while this one rests
        self.preprocessing = preprocessing
        self.device = device
        self.work = work or Work()
        self._batch, self._lanes = _batch_of(prepared, device)
        self._forward: Session | None = None
        self._backward: Session | None = None
        self._obstacle: str | None = None
        self._opening = RLock()  # lanes may be the first to ask

    @property
    def prepared(self) -> Prepared:
        """The working copy."""
        with self._opening:
            if self._original is not None:
                model = self._prepared.model
                self._prepared = replace(self._prepared, model=filled(model, held(model, self._original)))
                self._original = None
            return self._prepared

    @property
    def providers(self) -> tuple[str, ...]:
        """What onnxruntime really runs it on."""
        return self._onwards().providers

    def logits(self, pictures: Pixels) -> Floats:
        """Logits of pictures [n, h, w, c] -> [n, classes]. Raises ModelError where the graph gives others."""
        name = self.prepared.input
        forward = self._onwards()

        def scored(s: slice) -> Floats:
            x, n = self._batch_to(pictures, s)
            return forward.run({name: x})[0][:n]

        self.work.shown(len(pictures))
        parts = side_by_side(scored, self._slices(len(pictures)), self._lanes)
        scores = np.concatenate(parts) if parts else np.empty((0, self.classes), np.float32)
        if scores.shape != (len(pictures), self.classes):
            raise ModelError(
                f"{len(pictures)} pictures get scores of shape {scores.shape}: this graph cannot be audited"
            )
        return scores

    def gradient(
        self, pictures: Pixels, targets: Labels, *, w_ce: float = 0.0, w_margin: float = 1.0, cap: float = 1e9
    ) -> tuple[Floats, Pixels]:
        """Logits and, per picture, d loss / d bytes [n, h, w, c].

        A slope that is no number counts as none.

        loss = w_ce * cross-entropy to the target + w_margin * max(0, cap - margin), margin = target logit minus the best
        other logit. targets: int64 [n]. Raises UnsupportedOpError where there is an `obstacle`.
        """
        backward = self._both_ways()
        name = self.prepared.input

        def sloped(s: slice) -> tuple[Floats, Pixels]:
            x, n = self._batch_to(pictures, s)
            one_hot = np.zeros((len(x), self.classes), np.float32)
            one_hot[np.arange(n), targets[s]] = 1
            feeds = {
                name: x,
                "target": one_hot,
                "w_ce": np.full(len(x), w_ce, np.float32),
                "w_margin": np.full(len(x), w_margin, np.float32),
                "margin_cap": np.asarray(cap, np.float32),
            }
            z, g = backward.run(feeds, [self.prepared.logits, f"grad::{name}"])
            g = np.nan_to_num(g[:n], copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            return z[:n], pull_back(g, self.preprocessing, picture_shape=_picture_shape(pictures))

        self.work.shown(len(pictures))
        logits, gradients = zip(*side_by_side(sloped, self._slices(len(pictures)), self._lanes), strict=True)
        return np.concatenate(logits), np.concatenate(gradients)

    def in_batches(self, count: int, run: Callable[[slice], Result], *, each: int = 1) -> Iterator[Result]:
        """What `run` gives for slices of `count` things with `each` so many pictures, in order: as many in a slice as fit
        into a batch, several slices side by side. So what numpy does before and after a batch has all threads too.
        """
        return in_order(run, self._slices(count, each), self._lanes)

    def within(self, reach: Reach | None) -> "Subject":
        """The same model with other scores; this one must have no reach of its own yet, and rests."""
        if reach is None:
            return self
        self.rest()
        return Subject(self.prepared, self.preprocessing, self.device, self.work, reach)

    def fed(self, preprocessing: Preprocessing) -> "Subject":
        """The same network in the same session, fed with pictures that are prepared in another way."""
        self._onwards()
        other = copy(self)
        other.preprocessing = preprocessing
        return other

    @property
    def obstacle(self) -> str:
        """Which operators keep gradients from the picture, in words; empty where they reach it."""
        if self._obstacle is None:
            try:
                self._both_ways()
                self._obstacle = ""
            except UnsupportedOpError as error:
                self._obstacle = str(error)
        return self._obstacle

    def _onwards(self) -> Session:
        with self._opening:
            if self._forward is None:
                self._forward = session_beside(self.prepared.model, self.device, self._lanes)
            return self._forward

    def _both_ways(self) -> Session:
        with self._opening:
            if self._backward is None:
                p = self.prepared
                model = attack_gradient(
                    shell(p.model, elsewhere),
                    p.infos,
                    input_name=p.input,
                    logits_name=p.logits,
                    wrt=[p.input],
                    weights=p.model,
                )
                self._backward = session_beside(model, self.device, self._lanes, p.model)
            return self._backward

    def rest(self, original: "onnx.ModelProto | None" = None) -> None:
        """Give back the memory of the sessions, most of what a subject holds; what needs them opens them anew.

        original: the model as it was read, which must stay as it is: weights that it has as well are given back too.
        """
        self._forward = self._backward = None
        if original is not None and self._original is None:
            model = self._prepared.model
            self._prepared = replace(self._prepared, model=beside(model, in_common(model, original)))
            self._original = original
        give_back()

    def _batch_to(self, pictures: Pixels, s: slice) -> tuple[Floats, int]:
        """What a graph is fed with for a slice of the pictures, and how many these are. On a GPU the last one follows again
        and again until the batch has one of few sizes, the same for all slices.
        """
        shown = pictures[s]
        n = len(shown)
        if self.device.provider != CPU and self.prepared.batch_free:
            size = min(self._batch, next((z for z in SIZES if z >= len(pictures)), SIZES[-1]))
            shown = np.concatenate([shown, np.repeat(shown[-1:], size - n, axis=0)])
        return to_input(shown, self.preprocessing), n

    def _slices(self, n: int, each: int = 1) -> list[slice]:
        """Of n things with `each` so many pictures: at least one for every lane, where there are so many things; within a
        lane they are its own.
        """
        step = max(1, min(self._batch // each, -(-n // (1 if in_lane() else self._lanes))))
        return [slice(start, start + step) for start in range(0, n, step)]


def _batch_of(prepared: Prepared, device: Device) -> tuple[int, int]:
    """Pictures that go through the network together, and how many such batches run side by side."""
    each, most = max(1, activation_bytes(prepared.infos)), BATCH
    room = int(BATCH_SHARE * device.memory)
    lanes = max(1, min(lanes_of(device), room // each))
    if device.provider == CPU:
        room = min(room // lanes, CACHE + 2 * weight_bytes(prepared.model))
    else:
        room, most = max(room, int(GPU_SHARE * total_memory(device.index))), SIZES[-1]
    return max(1, min(most, room // each)) if prepared.batch_free else 1, lanes


def _picture_shape(pictures: Pixels) -> tuple[int, int, int]:
    return pictures.shape[1], pictures.shape[2], pictures.shape[3]


def margins(logits: Floats, targets: Labels) -> Floats:
    """Target logit minus the largest other logit, per row: float32 [n]; above 0 the target wins."""
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, targets] = -np.inf
    return np.asarray(logits[rows, targets] - others.max(axis=1), np.float32)
