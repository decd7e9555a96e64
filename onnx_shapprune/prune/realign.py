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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.blas import ssyrk

from onnx_shapprune.case.subject import BATCH, BATCH_SHARE, Floats, Pixels, Subject
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.cost import activation_bytes
from onnx_shapprune.graph.linear import Change, Linear, before_shift, change_copy, read
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.rows import DENSE, Laid, laid, moved_places, originals, taken
from onnx_shapprune.graph.stretches import Stretches, alive_bytes, batches_of
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.runtime.lanes import one_thread_each, side_by_side, threads_of
from onnx_shapprune.runtime.probe import TensorInfo
from onnx_shapprune.runtime.session import Array, Device

Doubles = NDArray[np.float64]
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
class Views:
    """What a fit is made on. clean: pictures float32 [n, h, w, c]; triggered: float32 [m, h, w, c]; of: int64 [m], which
    clean picture each of them is with a trigger on.
    """

    clean: Pixels
    triggered: Pixels
    of: Labels


@dataclass(frozen=True, slots=True)
class Realigned:
    """prepared: the working copy with the new weights; changes: by name of the layer."""

    prepared: Prepared
    changes: Mapping[str, tuple[Linear, Change]]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows of one kind that a layer is fitted on. rows, targets: laid out, in the network as repaired and in the original;
    places, wanted: of each row in the one and in the other; weight: float32 [rows]; chunk: rows that are picked out at once.
    """

    rows: Laid
    targets: Laid
    places: Labels
    wanted: Labels
    weight: Floats
    chunk: int

    def chunks(self) -> Iterator[tuple["Sample", slice]]:
        """Which of its rows are picked out at once."""
        return ((self, slice(start, start + self.chunk)) for start in range(0, len(self.places), self.chunk))

    def picked(self, chunk: slice, across: Floats) -> tuple[Floats, Floats]:
        """Rows r, float32 [groups, k, f], and what they miss, W (a - r), [groups, k, out/groups]. across: W transposed."""
        r = taken(self.rows, self.places[chunk])
        if self.rows is self.targets and self.places is self.wanted:
            return r, np.zeros((*r.shape[:2], across.shape[2]), np.float32)
        return r, np.asarray((taken(self.targets, self.wanted[chunk]) - r) @ across, np.float32)


def realign(
    original: Subject,
    edited: Subject,
    linears: Sequence[Linear],
    views: Views,
    fit: Fit,
    rng: np.random.Generator,
) -> Realigned:
    """Realign these layers of `edited`, in graph order, on these views, so that they answer as those of `original` do.

    edited: the original itself, or a pruned copy of it, in which `linears` were found.
    """
    prepared, device, name = edited.prepared, edited.device, edited.prepared.input
    views = _fitting(views, _room(edited, linears), rng)
    clean, triggered = (to_input(p, edited.preprocessing) for p in (views.clean, views.triggered))
    most = int(BATCH_SHARE * device.memory) // max(1, activation_bytes(prepared.infos))
    size = max(1, min(BATCH, most)) if prepared.batch_free else 1
    of_clean, of_triggered = batches_of(clean, size), batches_of(triggered, size)
    model = edit.copy_of(prepared.model)
    before = Stretches(original.prepared.model, name, original.prepared.infos, of_clean, device)
    after = Stretches(model, name, prepared.infos, [*of_clean, *of_triggered], device)
    changes: dict[str, tuple[Linear, Change]] = {}
    for linear in linears:
        info = prepared.infos[linear.data]
        now = after.reaching(linear.made, linear.data)
        meant = _laid(before.reaching(linear.made, linear.data), linear, info, len(clean))
        alike = original is edited and not changes
        still = meant if alike else _laid(now[: len(of_clean)], linear, info, len(clean))
        stirred = _laid(now[len(of_clean) :], linear, info, len(triggered))
        bounds = _bounds(linear, fit, device)
        samples = _samples((meant, still, stirred), views.of, fit.strength, bounds, rng)
        if samples is None:
            continue
        with one_thread_each():
            free = linear.shift is not None
            change = _solved(read(model, linear), samples, fit.ridge, free=free, lanes=bounds.lanes)
        if change.share or change.shift.any():
            change_copy(model, linear, change)
            changes[linear.name] = (linear, change)
    # What nobody probed has no gradient: the new constants, and what a MatMul makes before its shift.
    infos = prepared.infos | {
        t.name: TensorInfo(tuple(t.dims), np.dtype(np.float32))
        for t in model.graph.initializer
        if t.name not in prepared.infos
    }
    infos |= {before_shift(linear): infos[linear.made] for linear, _ in changes.values() if linear.made in infos}
    return Realigned(replace(prepared, model=model, infos=infos), changes)


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
    return Views(views.clean[kept], views.triggered[chosen], place[views.of[chosen]])


@dataclass(frozen=True, slots=True)
class Bounds:
    """rows: at most so many clean rows, and triggered ones; chunk: rows that are picked out at once; lanes: sums that are
    made side by side.
    """

    rows: int
    chunk: int
    lanes: int


def _bounds(linear: Linear, fit: Fit, device: Device) -> Bounds:
    """What fits into the memory: a system has as many unknowns as a row has values, or as there are rows if these are fewer,
    and then all rows are kept.
    """
    fan_in, values = linear.geometry.fan_in, linear.geometry.fan_in * linear.geometry.groups
    room, most = int(SOLVE_SHARE * device.memory), threads_of(device)
    lanes = max(1, min(most, room // (32 * values * linear.geometry.fan_in)))
    chunk = int(CHUNK_SHARE * device.memory) // (3 * 4 * values) // lanes
    rows = min(fit.rows, max(LEAST_ROWS, PRODUCTS // fan_in**2))
    rows = rows if 32 * fan_in**2 <= room else min(rows, room // (32 * fan_in) // 2)
    return Bounds(max(1, rows), max(1, min(CHUNK, chunk)), lanes)


def _laid(found: Sequence[Array], linear: Linear, info: TensorInfo, pictures: int) -> Laid:
    """What reaches a layer, laid out, the pictures in the first axis: some graphs have them in another, or lay the tokens
    of all pictures behind each other.
    """
    axis = next((i for i, d in enumerate(info.shape) if d is None), 0)
    joined = np.concatenate([np.moveaxis(b, axis, 0) if linear.geometry.kind in DENSE else b for b in found])
    return laid(np.asarray(joined, np.float32), linear.geometry, pictures)


def _samples(
    reaching: tuple[Laid, Laid, Laid], of: Labels, strength: float, bounds: Bounds, rng: np.random.Generator
) -> tuple[Sample, Sample] | None:
    """Clean rows, and rows that a trigger moves, drawn; None where no trigger reaches the layer.

    reaching: what the clean views mean to the original network, what they are now, and what the triggered ones are.
    """
    meant, still, stirred = reaching
    least = MOVED * float(np.abs(meant.values).max(initial=0.0))
    moved = _alike(moved_places(meant, stirred, of, least), stirred.each, bounds.rows, rng)
    if not len(moved):
        return None
    places = _alike(np.arange(still.places), still.each, bounds.rows, rng)
    return (
        Sample(still, meant, places, places, strength * _shares(places, still.each), bounds.chunk),
        Sample(stirred, meant, moved, originals(stirred, moved, of), _shares(moved, stirred.each), bounds.chunk),
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


def _solved(weight: Doubles, samples: Sequence[Sample], ridge: float, *, free: bool, lanes: int) -> Change:
    """The new weight and shift of one layer: [N, d] = [W, 0] + E (R'R + m)^-1, with E the second moments of what the rows
    miss, W (a - r), and the rows R, each with a 1 behind where the shift is free.

    With fewer rows than a row has values it is the same as [W, 0] + M' (R R' + m)^-1 R, a smaller system.
    """
    chunks = [chunk for s in samples for chunk in s.chunks()]
    if sum(len(s.places) for s in samples) <= weight.shape[2]:
        news, shifts = _by_rows(weight, chunks, ridge, free)
    else:
        shares = [share for i in range(lanes) if (share := chunks[i::lanes])]
        sums = side_by_side(lambda share: _moments(weight, share), shares, lanes)
        power, missed = (sum(parts[1:], parts[0]) for parts in zip(*sums, strict=True))
        news, shifts = _by_moments(power, missed, ridge, free)
    return Change(weight + news, shifts.reshape(-1), weight)


def _moments(weight: Doubles, chunks: Sequence[tuple[Sample, slice]]) -> tuple[Doubles, Doubles]:
    """Second moments of the rows, each with a 1 behind, and of what they miss with them: [groups, fan_in + 1, fan_in + 1]
    and [groups, out/groups, fan_in + 1]. Rows are multiplied in float32, which the ridge bears; sums are kept in float64.
    """
    groups, outputs, size = weight.shape
    across = weight.swapaxes(1, 2).astype(np.float32)
    power, missed = np.zeros((groups, size + 1, size + 1)), np.zeros((groups, outputs, size + 1))
    for sample, chunk in chunks:
        root = np.sqrt(sample.weight[chunk])
        r, m = (root[:, None] * part for part in sample.picked(chunk, across))
        power[:, :size, :size] += r.swapaxes(1, 2) @ r  # of one array by itself: half of the products
        power[:, :size, size] += root @ r
        power[:, size, size] += root @ root
        missed[:, :, :size] += m.swapaxes(1, 2) @ r
        missed[:, :, size] += root @ m
    return power, missed


def _by_moments(power: Doubles, missed: Doubles, ridge: float, free: bool) -> tuple[Doubles, Doubles]:
    """What is added to the weight, and the shift [groups, out/groups]."""
    size = power.shape[1] - 1
    news, shifts = np.zeros((*missed.shape[:2], size)), np.zeros(missed.shape[:2])
    for g in range(len(power)):
        factor = _factor(power[g, : size + free, : size + free], ridge * float(np.trace(power[g, :size, :size])) / size)
        if factor is not None and np.isfinite(missed[g]).all():
            solved = cho_solve(factor, missed[g, :, : size + free].T).T
            news[g] = solved[:, :size]
            shifts[g] = solved[:, size] if free else 0
    return news, shifts


def _factor(system: Doubles, ridge: float) -> tuple[Doubles, bool] | None:
    """Cholesky factor of the upper triangle of a system that the ridge is added to, in place. None where it has none: no
    row says anything, or values are infinite. The layer stays as it is then.
    """
    if not 0 < ridge < np.inf or not np.isfinite(system).all():
        return None
    system[np.diag_indices(len(system))] += ridge
    try:
        factor, lower = cho_factor(system, overwrite_a=True)
    except LinAlgError:
        return None
    return np.asarray(factor), bool(lower)


def _by_rows(
    weight: Doubles, chunks: Sequence[tuple[Sample, slice]], ridge: float, free: bool
) -> tuple[Doubles, Doubles]:
    """As `_by_moments`, by a system with one unknown for each row."""
    across = weight.swapaxes(1, 2).astype(np.float32)
    picked = [(np.sqrt(s.weight[chunk]), *s.picked(chunk, across)) for s, chunk in chunks]
    rows, missed = (np.concatenate([part[0][:, None] * part[k] for part in picked], axis=1) for k in (1, 2))
    ones = np.concatenate([w for w, *_ in picked]).astype(np.float64)
    news, shifts = np.zeros_like(weight), np.zeros(weight.shape[:2])
    for g in range(len(rows)):
        r, e = rows[g], missed[g].astype(np.float64)
        system = ssyrk(1.0, r.T, trans=1).astype(np.float64)  # as for moments, the ridge bears float32
        factor = _factor(system, ridge * float(np.trace(system)) / weight.shape[2])
        if factor is not None and np.isfinite(e).all():
            if free:  # as if 1 1' were added to the system; beside rows of small values it would drown them
                u = cho_solve(factor, ones)
                e -= np.outer(ones, u @ e / (1 + u @ ones))
            solved = cho_solve(factor, e).T
            news[g], shifts[g] = solved.astype(np.float32) @ r, solved @ ones * free
    return news, shifts
