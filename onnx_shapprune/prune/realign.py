"""Realignment: teach layers, in closed form, to answer a triggered picture as they answer the same picture without it.

Zeroing a channel throws away what it says about clean pictures. Here a layer with weight W keeps its clean answers and
loses the trigger's: with a(x) the rows that reach it in the original network and r(x) those in the network as repaired so
far, x clean views and (x, t) views with a recovered trigger, layer by layer in graph order

    minimise over N, d:  strength E_x |N r(x) + d - W a(x)|^2 + E_xt |N r(x, t) + d - W a(x)|^2 + m |[N, d] - [W, 0]|^2

with m = ridge * trace / fan_in. N is W times one matrix of the layer's input space: an oblique projection that removes the
directions which only triggers use (compare LEACE, Belrose et al., NeurIPS 2023, arXiv:2306.03819, and the rank-one update
of ROME, Meng et al., NeurIPS 2022, arXiv:2202.05262). No training, no optimiser: only values of stored weights change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from onnx_shapprune.case.subject import Floats, Pixels, Subject
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.linear import Change, Linear, change_copy, read
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.rows import moved_places, places_of, taken, windows
from onnx_shapprune.graph.stretches import Stretches, batches_of
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.runtime.session import Array

Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]
BATCH = 64
CHUNK = 2048  # rows that are multiplied at once
MOVED = 1e-6  # a row that a trigger changes by less, of the largest value, says nothing about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """strength: what a clean row weighs against a triggered one (lambda); ridge: what keeps the weights where they are,
    as a share of the mean power of a row's values (mu); rows: at most so many clean rows, and triggered ones, a layer.
    """

    strength: float = 300.0
    ridge: float = 1e-2
    rows: int = 6_000


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
    model = edit.copy_of(prepared.model)
    size = BATCH if prepared.batch_free else 1
    clean, triggered = (to_input(p, edited.preprocessing) for p in (views.clean, views.triggered))
    before = Stretches(original.prepared.model, name, prepared.infos, batches_of(clean, size), device)
    both = batches_of(np.concatenate([clean, triggered]), size)
    after = Stretches(model, name, prepared.infos, both, device)
    same = original is edited  # until the first change
    changes: dict[str, tuple[Linear, Change]] = {}
    for linear in linears:
        meant = _rows_of(before.reaching(linear.made, linear.data), linear, len(clean))
        now = _rows_of(after.reaching(linear.made, linear.data), linear, len(clean) + len(triggered))
        still = meant if same and not changes else now[: len(clean)]
        change = _solved(read(model, linear), linear, meant, still, now[len(clean) :], views.of, fit, rng)
        if change is not None:
            change_copy(model, linear, change)
            changes[linear.name] = (linear, change)
    return Realigned(replace(prepared, model=model), changes)


def _rows_of(found: Sequence[Array], linear: Linear, pictures: int) -> Floats:
    """What reaches a layer, the pictures in the first axis: some graphs lay the tokens of all pictures behind each other."""
    joined = np.concatenate(found)
    if linear.geometry.kind == "dense" and len(joined) != pictures:
        joined = joined.reshape(pictures, -1, joined.shape[-1])
    return np.asarray(joined, np.float32)


def _solved(
    weight: Doubles,
    linear: Linear,
    meant: Floats,
    clean: Floats,
    triggered: Floats,
    of: Labels,
    fit: Fit,
    rng: np.random.Generator,
) -> Change | None:
    """The new weight and shift of one layer; None where no trigger reaches it."""
    geometry = linear.geometry
    wanted = meant[of]
    least = MOVED * float(np.abs(meant).max(initial=0.0))
    moved = _some(moved_places(wanted, triggered, geometry, least), fit.rows, rng)
    if not len(moved):
        return None
    target = windows(meant, geometry)
    now = target if clean is meant else windows(clean, geometry)
    places = _some(places_of(now), fit.rows, rng)
    power, cross = _moments(now, target, places, places)
    other_power, other_cross = _moments(windows(triggered, geometry), target, moved, _originals(moved, of))
    power, cross = fit.strength * power + other_power, fit.strength * cross + other_cross
    size = power.shape[1] - 1
    free = linear.shift is not None
    news, shifts = np.empty_like(weight), np.zeros(weight.shape[:2])
    for g in range(len(power)):
        keep = slice(None) if free else slice(0, size)
        a, b = power[g][keep, keep].copy(), cross[g][:, keep].copy()
        ridge = fit.ridge * float(np.trace(power[g][:size, :size])) / size
        if not ridge > 0:
            news[g] = weight[g]
            continue
        a[np.diag_indices_from(a)] += ridge
        b[np.arange(size), np.arange(size)] += ridge
        solved = cho_solve(cho_factor(a), (weight[g] @ b).T).T
        news[g] = solved[:, :size]
        if free:
            shifts[g] = solved[:, size]
    return Change(news, shifts.reshape(-1), weight)


def _originals(places: Labels, of: Labels) -> Labels:
    """The same places in the clean pictures that the triggered ones were made of."""
    clean = places.copy()
    clean[:, 0] = of[places[:, 0]]
    return clean


def _some(places: Labels, most: int, rng: np.random.Generator) -> Labels:
    """At most so many of the places, drawn."""
    if len(places) <= most:
        return places
    return places[np.sort(rng.choice(len(places), most, replace=False))]


def _moments(rows: Floats, target: Floats, places: Labels, originals: Labels) -> tuple[Doubles, Doubles]:
    """E[r r'] and E[a r'] over rows at `places`, with a 1 behind every row r: float64 [groups, f + 1, f + 1] and
    [groups, f, f + 1].

    Rows are gathered a chunk at a time and multiplied in float32, which the ridge bears; sums are kept in float64.
    """
    power, cross = np.zeros(()), np.zeros(())
    same = rows is target and places is originals
    for start in range(0, len(places), CHUNK):
        r = taken(rows, places[start : start + CHUNK])
        a = r if same else taken(target, originals[start : start + CHUNK])
        r = np.concatenate([r, np.ones((*r.shape[:2], 1), np.float32)], axis=2)
        power = power + r.swapaxes(1, 2) @ r
        cross = cross if same else cross + a.swapaxes(1, 2) @ r
    if same:
        cross = power[:, :-1].copy()
    return np.asarray(power, np.float64) / len(places), np.asarray(cross, np.float64) / len(places)
