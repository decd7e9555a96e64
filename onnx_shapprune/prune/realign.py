"""Realignment: teach layers, in closed form, to answer a triggered picture as they answer the same picture without it.

Zeroing a channel throws away what it says about clean pictures. Here a layer with weight W keeps its clean answers and
loses the trigger's: with a(x) the rows that reach it in the original network and r(x) those in the network as repaired so
far, x clean views and (x, t) views with a recovered trigger, layer by layer in graph order

    minimise over N, d:  strength E_x |N r(x) + d - W a(x)|^2 + E_xt |N r(x, t) + d - W a(x)|^2 + m |[N, d] - [W, 0]|^2

with m = ridge * trace / fan_in. Means are over pictures, and in each over its rows. N is W times one matrix of the
layer's input space: an oblique projection that removes the directions which only triggers use (compare LEACE, Belrose
et al., NeurIPS 2023, arXiv:2306.03819, and the rank-one update of ROME, Meng et al., NeurIPS 2022, arXiv:2202.05262).
No training, no optimiser: only values of stored weights change.

What is kept stays within the memory of the device: half of it for what reaches the layers, a quarter for the system that
is solved, an eighth for rows that are multiplied at once. Where all views are too many for the first, the fit is made on
fewer, drawn; where all rows are too many for the second, on fewer rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.subject import BATCH, BATCH_SHARE, Floats, Pixels, Subject
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.cost import activation_bytes
from onnx_shapprune.graph.linear import Change, Linear, before_shift, change_copy, read
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.rows import DENSE, Laid, laid, moved_places, originals
from onnx_shapprune.graph.stretches import Stretches, alive_bytes, batches_of
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.prune.solving import Bools, Sample, solved
from onnx_shapprune.runtime.lanes import one_thread_each, threads_of
from onnx_shapprune.runtime.probe import TensorInfo
from onnx_shapprune.runtime.session import Array, Device

Labels = NDArray[np.int64]
CHUNK = 2048  # rows that are multiplied at once
MOVED = 1e-6  # a row that a trigger changes by less, of the largest value, says nothing about it
# Of rows that have very many values fewer are drawn, so that no layer takes many more products than this for its clean rows,
# and as many for the triggered ones. 2026-11-28, chosen: layers of up to 1,581 values have all 8,000.
PRODUCTS, LEAST_ROWS = 20_000_000_000, 2_000
VIEW_SHARE = 1 / 2  # of the memory, for what reaches the layers
SOLVE_SHARE = 1 / 4  # for the system that is solved, in float64, and its factor
CHUNK_SHARE = 1 / 8  # for the rows of a chunk, the clean ones, and what lies between


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """strength: what a clean row weighs against a triggered one (lambda); ridge: what keeps the weights where they are,
    as a share of the mean power of a row's values (mu); rows: at most so many clean rows, and triggered ones, a layer, and
    fewer where a row has very many values.
    """

    strength: float = 300.0
    ridge: float = 1e-2
    rows: int = 8_000


@dataclass(frozen=True, slots=True)
class Fold:
    """Which of the clean views, bool [n], and of the triggered ones, bool [m], are left where some pictures are not."""

    clean: Bools
    triggered: Bools


@dataclass(frozen=True, slots=True)
class Views:
    """What a fit is made on. clean: pictures float32 [n, h, w, c]; triggered: float32 [m, h, w, c]; of: int64 [m], which
    clean picture each of them is with a trigger on; folds: what else is fitted on fewer of them.
    """

    clean: Pixels
    triggered: Pixels
    of: Labels
    folds: Sequence[Fold] = ()


@dataclass(frozen=True, slots=True)
class Realigned:
    """prepared: the working copy with the new weights; changes: by name of the layer; folds: the working copy with those
    that each fold gives.
    """

    prepared: Prepared
    changes: Mapping[str, tuple[Linear, Change]]
    folds: tuple[Prepared, ...] = ()


def realign(
    original: Subject,
    edited: Subject,
    linears: Sequence[Linear],
    views: Views,
    fit: Fit,
    rng: np.random.Generator,
) -> Realigned:
    """Realign these layers of `edited`, in graph order, on these views, so that they answer as those of `original` do.

    edited: the original itself, or a pruned copy of it, in which `linears` were found. The layers of a fold learn from what
    those of the fit itself pass on.
    """
    prepared, device, name = edited.prepared, edited.device, edited.prepared.input
    views = _fitting(views, _room(edited, linears), rng)
    clean, triggered = (to_input(p, edited.preprocessing) for p in (views.clean, views.triggered))
    most = int(BATCH_SHARE * device.memory) // max(1, activation_bytes(prepared.infos))
    size = max(1, min(BATCH, most)) if prepared.batch_free else 1
    of_clean, of_triggered = batches_of(clean, size), batches_of(triggered, size)
    models = [edit.copy_of(prepared.model) for _ in range(1 + len(views.folds))]
    model = models[0]
    before = Stretches(original.prepared.model, name, original.prepared.infos, of_clean, device)
    after = Stretches(model, name, prepared.infos, [*of_clean, *of_triggered], device)
    changes: list[dict[str, tuple[Linear, Change]]] = [{} for _ in models]
    for linear in linears:
        info = prepared.infos[linear.data]
        now = after.reaching(linear.made, linear.data)
        meant = _laid(before.reaching(linear.made, linear.data), linear, info, len(clean))
        alike = original is edited and not changes[0]
        still = meant if alike else _laid(now[: len(of_clean)], linear, info, len(clean))
        stirred = _laid(now[len(of_clean) :], linear, info, len(triggered))
        bounds = _bounds(linear, fit, device, len(views.folds))
        samples = _samples((meant, still, stirred), views, fit.strength, bounds, rng)
        if samples is None:
            continue
        with one_thread_each():
            free = linear.shift is not None
            found = solved(read(model, linear), samples, fit.ridge, free=free, lanes=bounds.lanes)
        for change, copy, changed in zip(found, models, changes, strict=True):
            if change.share or change.shift.any():
                change_copy(copy, linear, change)
                changed[linear.name] = (linear, change)
    made = [_known(replace(prepared, model=copy), changed) for copy, changed in zip(models, changes, strict=True)]
    return Realigned(made[0], changes[0], tuple(made[1:]))


def _known(made: Prepared, changes: Mapping[str, tuple[Linear, Change]]) -> Prepared:
    """A changed working copy with what is known of its tensors. What nobody probed has no gradient: the new constants, and
    what a MatMul makes before its shift.
    """
    infos = made.infos | {
        t.name: TensorInfo(tuple(t.dims), np.dtype(np.float32))
        for t in made.model.graph.initializer
        if t.name not in made.infos
    }
    infos |= {before_shift(linear): infos[linear.made] for linear, _ in changes.values() if linear.made in infos}
    return replace(made, infos=infos)


def _room(subject: Subject, linears: Sequence[Linear]) -> int:
    """How many pictures' worth of what reaches these layers the memory holds."""
    infos = subject.prepared.infos
    shapes = [(linear, [d or 1 for d in infos[linear.data].shape]) for linear in linears]
    widest = [laid(np.zeros(shape, np.float32), linear.geometry, 1).values.nbytes for linear, shape in shapes]
    each = alive_bytes(subject.prepared.model, infos, [linear.made for linear in linears]) + max(widest, default=0)
    return int(VIEW_SHARE * subject.device.memory) // max(1, each)


def _fitting(views: Views, room: int, rng: np.random.Generator) -> Views:
    """As many of the views as there is room for, drawn; clean ones are held twice, as the original network sees them too."""
    total = 2 * len(views.clean) + len(views.triggered)
    if total <= room or not len(views.of):
        return views
    share = room / total
    clean, triggered = (max(1, int(share * len(v))) for v in (views.clean, views.triggered))
    order = rng.permutation(len(views.clean))
    kept = order[np.argsort(~np.isin(order, views.of), kind="stable")][:clean]  # those that a trigger stands on first
    place = np.full(len(views.clean), -1)
    place[kept] = np.arange(len(kept))
    usable = np.flatnonzero(place[views.of] >= 0)
    chosen = np.sort(rng.permutation(usable)[:triggered])
    folds = [Fold(f.clean[kept], f.triggered[chosen]) for f in views.folds]
    return Views(views.clean[kept], views.triggered[chosen], place[views.of[chosen]], folds)


@dataclass(frozen=True, slots=True)
class Bounds:
    """rows: at most so many clean rows, and triggered ones; chunk: rows that are picked out at once; lanes: sums that are
    made side by side.
    """

    rows: int
    chunk: int
    lanes: int


def _bounds(linear: Linear, fit: Fit, device: Device, folds: int = 0) -> Bounds:
    """What fits into the memory: a system has as many unknowns as a row has values, or as there are rows if these are fewer,
    and then all rows are kept.
    """
    fan_in, values = linear.geometry.fan_in, linear.geometry.fan_in * linear.geometry.groups
    room, most, each = int(SOLVE_SHARE * device.memory), threads_of(device), 32 + 16 * folds
    lanes = max(1, min(most, room // (each * values * linear.geometry.fan_in)))
    chunk = int(CHUNK_SHARE * device.memory) // (3 * 4 * values) // lanes
    rows = min(fit.rows, max(LEAST_ROWS, PRODUCTS // fan_in**2))
    rows = rows if each * fan_in**2 <= room else min(rows, room // (32 * fan_in) // 2)
    return Bounds(max(1, rows), max(1, min(CHUNK, chunk)), lanes)


def _laid(found: Sequence[Array], linear: Linear, info: TensorInfo, pictures: int) -> Laid:
    """What reaches a layer, laid out, the pictures in the first axis: some graphs have them in another, or lay the tokens
    of all pictures behind each other.
    """
    axis = next((i for i, d in enumerate(info.shape) if d is None), 0)
    joined = np.concatenate([np.moveaxis(b, axis, 0) if linear.geometry.kind in DENSE else b for b in found])
    return laid(np.asarray(joined, np.float32), linear.geometry, pictures)


def _samples(
    reaching: tuple[Laid, Laid, Laid], views: Views, strength: float, bounds: Bounds, rng: np.random.Generator
) -> tuple[Sample, Sample] | None:
    """Clean rows, and rows that a trigger moves, drawn; None where no trigger reaches the layer.

    reaching: what the clean views mean to the original network, what they are now, and what the triggered ones are.
    """
    meant, still, stirred = reaching
    of, folds = views.of, views.folds
    least = MOVED * float(np.abs(meant.values).max(initial=0.0))
    moved = _alike(moved_places(meant, stirred, of, least), stirred.each, bounds.rows, rng)
    if not len(moved):
        return None
    places = _alike(np.arange(still.places), still.each, bounds.rows, rng)
    stay = [np.stack([np.ones(len(places), bool), *(f.clean[places // still.each] for f in folds)])]
    stay += [np.stack([np.ones(len(moved), bool), *(f.triggered[moved // stirred.each] for f in folds)])]
    weights, wanted = strength * _shares(places, still.each), originals(stirred, moved, of)
    return (
        Sample(still, meant, places, places, weights, bounds.chunk, stay[0]),
        Sample(stirred, meant, moved, wanted, _shares(moved, stirred.each), bounds.chunk, stay[1]),
    )


def _alike(places: Labels, each: int, most: int, rng: np.random.Generator) -> Labels:
    """At most so many of the places, drawn, as many of each picture as of any other that has as many. each: places that
    belong to one picture.
    """
    if len(places) <= most:
        return places
    drawn = rng.permutation(places)
    drawn = drawn[np.argsort(drawn // each, kind="stable")]
    _, begins, counts = np.unique(drawn // each, return_index=True, return_counts=True)
    turn = np.arange(len(drawn)) - np.repeat(begins, counts)
    return np.sort(drawn[np.argsort(turn, kind="stable")[:most]])


def _shares(places: Labels, each: int) -> Floats:
    """What each row weighs, so that every picture weighs as much as any other, and all together 1."""
    _, of, counts = np.unique(places // each, return_inverse=True, return_counts=True)
    return np.asarray(1 / (counts[of] * len(counts)), np.float32)
