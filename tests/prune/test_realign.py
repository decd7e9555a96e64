"""Realignment against plain least squares of the stacked system, its effect, and what it keeps in memory."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import attention
import models
import numpy as np
import onnx
import planted
import pytest
from exports import EXPORTS, SIZE
from models import CLASSES, Net

from onnx_shapprune.case.subject import Subject
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.linear import Linear, change_copy, find_linears, read
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.rows import Geometry, laid, taken
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.pictures.preprocess import Preprocessing, to_input
from onnx_shapprune.prune.realign import Fit, Fold, Realigned, Views, _alike, _bounds, _shares, realign
from onnx_shapprune.runtime.probe import run_exposed
from onnx_shapprune.runtime.session import Device

ALL = 10**9  # rows


def size_of(model: onnx.ModelProto) -> tuple[int, int] | None:
    """Height and width where the file does not say them."""
    return SIZE if len(models.shape_of(model)) != 3 or 0 in models.shape_of(model) else None


def subject_of(model: onnx.ModelProto, memory: int = 2 << 30) -> Subject:
    device = Device(threads=1, memory=memory)
    interface = find_interface(model, size=size_of(model))
    settings = Preprocessing(layout=interface.layout)
    return Subject(prepare(model, interface, interface.dims, device), settings, device)


def linears_of(model: onnx.ModelProto, subject: Subject) -> tuple[Linear, ...]:
    return find_linears(model, find_interface(model, size=size_of(model)).output, subject.prepared.model)[0]


def views(clean: int = 8, triggered: int = 12, seed: int = 0, side: int = 8, *, larger: bool = False) -> Views:
    """Noise, and some of it with a white corner. larger: in every third it is."""
    rng = np.random.default_rng(seed)
    pictures = rng.uniform(0, 255, (clean, side, side, 3)).astype(np.float32)
    of = rng.integers(0, clean, triggered)
    marked = pictures[of]
    marked[:, -3:, -3:] = 255
    if larger:
        marked[::3, -6:, -6:] = 255
    return Views(pictures, marked, of)


def reaching(subject: Subject, model: onnx.ModelProto, linear: Linear, pictures: np.ndarray) -> np.ndarray:
    """Rows of a layer in one run of the whole graph: float64 [groups, pictures, places, fan_in]."""
    x = to_input(pictures, subject.preprocessing)
    parts = [x] if subject.prepared.batch_free else [x[i : i + 1] for i in range(len(x))]
    runs = run_exposed(model, [{subject.prepared.input: p} for p in parts], subject.device)
    found = np.concatenate([r.get(linear.data, p) for r, p in zip(runs, parts, strict=True)])
    data = laid(found, linear.geometry, len(x))
    rows = taken(data, np.arange(data.places))
    return rows.reshape(len(rows), len(x), data.each, -1).astype(np.float64)


def by_least_squares(
    linear: Linear,
    weight: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray],
    of: np.ndarray,
    fit: Fit,
    answers: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Weight and shift from the stacked system, each row times the root of its weight. rows: what clean views mean, what
    they are now, and what the triggered ones are, as `reaching` gives them; answers: weight and shift that give what the
    rows are to, where it is not what they mean.
    """
    meant, clean, triggered = rows
    wanted = meant[:, of]
    moved = (np.abs(triggered - wanted) > 1e-6 * np.abs(meant).max()).any(axis=(0, 3))
    fan_in, free = weight.shape[2], linear.shift is not None
    news, shifts = [], []
    counts = moved.sum(axis=1)  # of each triggered picture: all weigh alike, however much of them a trigger moves
    shares = np.repeat(1 / np.maximum(1, counts), counts) / (counts > 0).sum()
    for g, w in enumerate(weight):
        still = clean[g].reshape(-1, fan_in)
        parts = [
            (still, meant[g].reshape(-1, fan_in), np.full(len(still), fit.strength / len(still))),
            (triggered[g][moved], wanted[g][moved], shares),
        ]
        root = np.sqrt(fit.ridge * sum((share @ r**2).sum() for r, _, share in parts) / fan_in)
        left = [np.sqrt(share)[:, None] * np.hstack([r, np.full((len(r), 1), free)]) for r, _, share in parts]
        right = [np.sqrt(share)[:, None] * (a @ w.T) for r, a, share in parts]
        if answers:
            new, shift = answers[0][g], answers[1].reshape(len(weight), -1)[g]
            right = [np.sqrt(share)[:, None] * (r @ new.T + shift) for r, _, share in parts]
        left.append(root * np.eye(fan_in + 1))
        right.append(root * np.vstack([w.T, np.zeros((1, len(w)))]))
        solved = np.linalg.lstsq(np.vstack(left), np.vstack(right), rcond=None)[0]
        news.append(solved[:fan_in].T)
        shifts.append(solved[fan_in])
    return np.array(news), np.concatenate(shifts)


def check(
    original: Subject, edited: Subject, linears: tuple[Linear, ...], made: Realigned, seen: Views, fit: Fit
) -> None:
    """Every change is the least-squares solution on what the changes before it left."""
    model, moved = edit.copy_of(edited.prepared.model), []
    for linear in linears:
        weight = read(model, linear)
        meant = reaching(original, original.prepared.model, linear, seen.clean)
        now, triggered = (reaching(edited, model, linear, p) for p in (seen.clean, seen.triggered))
        want, shift = by_least_squares(linear, weight, (meant, now, triggered), seen.of, fit)
        change = made.changes[linear.name][1]
        moved.append(np.abs(want - weight).max() / np.abs(weight).max())
        np.testing.assert_allclose(change.weight, want, atol=2e-4 * np.abs(weight).max())
        np.testing.assert_allclose(change.shift, shift, atol=2e-4 * max(1, np.abs(shift).max()))
        change_copy(model, linear, change)
    assert max(moved) > 1e-2


def without_biases(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    x = n.op("Relu", n.conv("x", 3, 5, bias=False))
    x = n.op("Relu", n.conv(x, 5, 4, bias=False))
    return n.model(n.op("MatMul", n.op("Flatten", n.op("GlobalAveragePool", x)), n.normal(4, CLASSES)))


def wide(seed: int = 0) -> onnx.ModelProto:
    """A perceptron on pixels: more values in a row than there are rows."""
    n = Net(seed)
    x = n.op("Relu", n.dense(n.op("Flatten", "x"), 192, 9))
    return n.model(n.op("MatMul", x, n.normal(9, CLASSES)))


def tokens_first(seed: int = 0, *, turned: bool = True) -> onnx.ModelProto:
    """Tokens in the first axis, pictures in the second, as PyTorch lays them unless told otherwise."""
    n = Net(seed)
    x = n.op("Reshape", n.op("Relu", n.conv("x", 3, 6)), n.const(np.array([0, 6, 64])))
    x = n.op("Transpose", x, perm=[2, 0, 1] if turned else [0, 2, 1])
    x = n.op("Relu", n.op("Add", n.op("MatMul", x, n.normal(6, 7)), n.normal(7)))
    return n.model(n.dense(n.op("ReduceMax", x, axes=[0 if turned else 1], keepdims=0), 7, CLASSES))


OWN = (without_biases, wide)
NETS: dict[str, Callable[[], onnx.ModelProto]] = {
    **{k: v for k, v in models.FAMILIES.items() if k != "nhwc"},
    "transposed_convolutions": EXPORTS["transposed_convolutions"],
    "attention_separate": lambda: attention.network("separate"),
    "windows": planted.windows,
    **{f.__name__: f for f in OWN},
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("fit", [Fit(strength=3, ridge=1e-2, rows=ALL), Fit(strength=100, ridge=0.1, rows=ALL)])
def test_every_layer_is_the_least_squares_solution(name, fit):
    model = NETS[name]()
    subject = subject_of(model)
    linears, seen = linears_of(model, subject), views(larger=True)
    made = realign(subject, subject, linears, seen, fit, np.random.default_rng(0))
    assert set(made.changes) == {linear.name for linear in linears}
    check(subject, subject, linears, made, seen, fit)


@pytest.mark.parametrize("name", ["vgg_maxpool", "conv_bn_relu_residual", "wide"])
def test_a_pruned_copy_is_taught_what_the_original_answers(name):
    model, fit = NETS[name](), Fit(strength=3, rows=ALL)
    layers = find_units(model, model.graph.output[0].name).layers
    pruned = bake(model, layers, {layers[0].name: [0, 2]})
    original, edited = subject_of(model), subject_of(pruned)
    linears, seen = linears_of(pruned, edited)[1:], views(larger=True)
    made = realign(original, edited, linears, seen, fit, np.random.default_rng(0))
    check(original, edited, linears, made, seen, fit)


def test_few_rows_and_many_give_the_solution_by_either_system():
    model, fit = wide(), Fit(strength=3, rows=ALL)
    subject = subject_of(model)
    linears = linears_of(model, subject)
    assert linears[0].geometry.fan_in == 192
    for seen in (views(40, 152), views(40, 153), views(41, 300)):  # 192, 193 and more rows
        made = realign(subject, subject, linears, seen, fit, np.random.default_rng(0))
        check(subject, subject, linears, made, seen, fit)


@pytest.mark.parametrize(
    ("name", "first"), [("vgg_maxpool", 0), ("vgg_maxpool", 1), ("without_biases", 1), ("wide", 0)]
)
def test_a_fold_answers_what_it_keeps_as_the_fit_does(name, first):
    model, fit = NETS[name](), Fit(strength=3, rows=ALL)
    subject = subject_of(model)
    linears = linears_of(model, subject)[first:]
    layer = linears[0]
    for seen in (views(20, 40, larger=True), views(40, 300)):  # of the wide one fewer rows than values, and more
        kept = np.arange(len(seen.clean)) % 3 > 0
        left = kept[seen.of] & (np.arange(len(seen.of)) % 5 > 0)
        folds = [Fold(kept, left), Fold(kept, np.zeros(len(left), bool))]
        made = realign(subject, subject, linears, replace(seen, folds=folds), fit, np.random.default_rng(0))
        clean, triggered = (reaching(subject, subject.prepared.model, layer, p) for p in (seen.clean, seen.triggered))
        change, of = made.changes[layer.name][1], (np.cumsum(kept) - 1)[seen.of[left]]
        rows = clean[:, kept], clean[:, kept], triggered[:, left]
        answers = change.weight, change.shift
        want, _ = by_least_squares(layer, read(subject.prepared.model, layer), rows, of, fit, answers)
        fold, untaught = (read(p.model, layer) for p in made.folds)
        np.testing.assert_allclose(fold, want, atol=2e-4 * np.abs(want).max())
        assert np.abs(fold - change.weight).max() > 1e-3, "what it does not keep is another matter"
        assert np.isfinite(untaught).all()


def test_rows_of_tiny_values_do_not_drown_beside_the_shift():
    """The head of a net whose features are about 1e-7, with fewer rows than inputs."""
    n = Net()
    x = n.op("Mul", n.op("Flatten", n.op("Relu", n.conv("x", 3, 5))), n.const(np.float32(1e-7)))
    model, fit, seen = n.model(n.dense(x, 320, CLASSES)), Fit(strength=3, rows=ALL), views()
    subject = subject_of(model)
    head = linears_of(model, subject)[-1]
    assert head.geometry.fan_in == 320
    made = realign(subject, subject, [head], seen, fit, np.random.default_rng(0))
    weight = read(subject.prepared.model, head)
    meant, triggered = (
        reaching(subject, subject.prepared.model, head, p)[0, :, 0] for p in (seen.clean, seen.triggered)
    )
    change = made.changes[head.name][1]
    before = np.abs((triggered - meant[seen.of]) @ weight[0].T).mean()
    after = np.abs(triggered @ change.weight[0].T + change.shift - meant[seen.of] @ weight[0].T).mean()
    assert after < 0.5 * before


def test_a_layer_without_a_solution_stays_as_it_is():
    """Infinite values reach the last layer on every picture."""
    n = Net()
    x = n.op("GlobalAveragePool", n.op("Relu", n.conv("x", 3, 5)))
    n.op("Exp", n.op("Mul", x, n.const(np.float32(1e6))))
    y = n.op("Flatten", n.op("Min", n.nodes[-1].output[0], n.const(np.float32(1e38))))
    model = n.model(n.dense(y, 5, CLASSES))
    subject = subject_of(model)
    head = linears_of(model, subject)[-1]
    made = realign(subject, subject, [head], views(), Fit(), np.random.default_rng(0))
    assert made.changes == {}


@pytest.mark.parametrize("count", [1, 40])
def test_a_layer_that_would_miss_infinitely_much_stays_as_it_is(count):
    """White pictures make its rows large, and what those are multiplied by infinite."""
    n = Net()
    white = n.op("Relu", n.op("Sub", n.op("GlobalAveragePool", "x"), n.const(np.float32(0.9))))
    y = n.dense(n.op("Flatten", n.op("Mul", white, n.const(np.float32(1e18)))), 3, CLASSES)
    model = n.model(n.op("Add", y, n.head(n.op("Relu", n.conv("x", 3, 5)), 5)))
    made_of = next(node for node in model.graph.node if y in node.output)
    weight = next(t for t in model.graph.initializer if t.name == made_of.input[1])
    large = onnx.numpy_helper.to_array(weight) * np.float32(1e25)
    weight.CopyFrom(onnx.numpy_helper.from_array(large, weight.name))
    subject = subject_of(model)
    layer = next(k for k in linears_of(model, subject) if k.made == y)
    clean, triggered = np.zeros((count, 8, 8, 3), np.float32), np.full((count, 8, 8, 3), 255, np.float32)
    seen = Views(clean, triggered, np.arange(count))
    with np.errstate(all="ignore"):
        made = realign(subject, subject, [layer], seen, Fit(), np.random.default_rng(0))
    assert made.changes == {}


def test_pictures_in_the_second_axis_are_told_apart():
    fit, seen = Fit(strength=3, rows=ALL), views(70, 90)  # more than a batch
    found = []
    for turned in (True, False):
        model = tokens_first(turned=turned)
        subject = subject_of(model)
        made = realign(subject, subject, linears_of(model, subject), seen, fit, np.random.default_rng(0))
        found.append(list(made.changes.values()))
    for (_, one), (_, other) in zip(*found, strict=True):
        np.testing.assert_allclose(one.weight, other.weight, atol=1e-5)
        np.testing.assert_allclose(one.shift, other.shift, atol=1e-5)


EFFECT = {**NETS, "nhwc": models.nhwc, "frozen_batch": planted.frozen_batch, **EXPORTS}


@pytest.mark.parametrize("name", EFFECT)
def test_triggered_views_are_answered_more_like_clean_ones(name):
    model = EFFECT[name]()
    subject = subject_of(model)
    seen = views()
    linears = linears_of(model, subject)
    made = realign(subject, subject, linears, seen, Fit(strength=10, rows=ALL), np.random.default_rng(0))
    after = Subject(made.prepared, subject.preprocessing, subject.device)
    want = subject.logits(seen.clean)
    before, now = (np.abs(s.logits(seen.triggered) - want[seen.of]).mean() for s in (subject, after))
    lost = np.abs(after.logits(seen.clean) - want).mean()
    assert now < 0.98 * before
    assert lost < 0.4 * before


@pytest.mark.parametrize("name", [*NETS, "nhwc"])
def test_a_realigned_working_copy_has_gradients(name):
    """A search on it would else go on by trial, find nothing, and take any weakness for gone."""
    model = EFFECT[name]()
    subject = subject_of(model)
    linears, given = linears_of(model, subject), views()
    made = realign(subject, subject, linears, given, Fit(strength=3, ridge=1e-2), np.random.default_rng(0))
    learnt = Subject(made.prepared, subject.preprocessing, subject.device)
    assert made.changes
    assert not learnt.obstacle
    shown, targets = given.clean[:2], np.zeros(2, np.int64)
    logits, slope = learnt.gradient(shown, targets)
    np.testing.assert_allclose(logits, learnt.logits(shown), rtol=1e-4, atol=1e-4)
    assert np.isfinite(slope).all()
    assert slope.any()


def test_where_no_trigger_reaches_nothing_changes():
    model = models.vgg_maxpool()
    subject = subject_of(model)
    seen = views()
    same = Views(seen.clean, seen.clean[seen.of], seen.of)
    made = realign(subject, subject, linears_of(model, subject), same, Fit(), np.random.default_rng(0))
    assert made.changes == {}
    assert made.prepared.model == subject.prepared.model


def test_the_same_numbers_every_time_and_at_most_so_many_rows():
    model = models.vgg_maxpool()
    subject = subject_of(model)
    linears, seen = linears_of(model, subject), views()
    few, again, all_rows = (
        realign(subject, subject, linears, seen, Fit(rows=rows), np.random.default_rng(5)) for rows in (40, 40, ALL)
    )
    for name in few.changes:
        np.testing.assert_array_equal(few.changes[name][1].weight, again.changes[name][1].weight)
    first = linears[0].name
    assert np.abs(few.changes[first][1].weight - all_rows.changes[first][1].weight).max() > 1e-4


def test_what_is_left_out_is_drawn_evenly_among_the_pictures():
    places = np.concatenate([np.arange(40, 43), np.arange(80, 120)])  # of the second picture and the third
    drawn = _alike(places, 40, 10, np.random.default_rng(0))
    assert np.bincount(drawn // 40).tolist() == [0, 3, 7], "all three of the one, and more of the other only then"
    assert set(drawn) <= set(places)
    np.testing.assert_allclose(_shares(drawn, 40), [1 / 6] * 3 + [1 / 14] * 7, rtol=1e-6)


@pytest.mark.parametrize(("fan_in", "rows"), [(27, 8_000), (1_152, 8_000), (2_304, 3_767), (4_608, 2_000)])
def test_long_rows_are_fewer(fan_in, rows):
    model = models.vgg_maxpool()
    linear = linears_of(model, subject_of(model))[0]
    wide = replace(linear, geometry=Geometry("Gemm", (fan_in, CLASSES)))
    assert _bounds(wide, Fit(), Device(threads=1, memory=8 << 30)).rows == rows


def peak(memory: int, model: onnx.ModelProto, seen: Views) -> tuple[int, Realigned]:
    """Most bytes that Python and numpy held beyond what was there before."""
    subject = subject_of(model, memory)
    linears = linears_of(model, subject)
    tracemalloc.start()
    made = realign(subject, subject, linears, seen, Fit(strength=3), np.random.default_rng(0))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most, made


def large(seed: int = 0) -> onnx.ModelProto:
    """64 x 64 pictures with 16 channels: 256 KiB a picture in the first layers."""
    n = Net(seed)
    x = n.op("Relu", n.conv("x", 3, 16))
    x = n.op("Relu", n.op("Add", x, n.conv(x, 16, 16)))
    return n.model(n.head(x, 16), shape=(3, 64, 64))


def long_rows(seed: int = 0) -> onnx.ModelProto:
    """A dense layer with 3,072 inputs for each of 64 tokens."""
    n = Net(seed)
    x = n.op("Reshape", n.conv("x", 3, 96), n.const(np.array([0, 96, 2, 32])))
    x = n.op("Transpose", x, perm=[0, 2, 3, 1])
    x = n.op("Concat", *[x] * 32, axis=3)
    x = n.op("ReduceMean", n.op("Relu", n.op("MatMul", x, n.normal(3072, 8, scale=0.02))), axes=[1, 2], keepdims=0)
    return n.model(n.dense(x, 8, CLASSES))


@pytest.mark.parametrize(("build", "memory"), [(large, 48 << 20), (long_rows, 48 << 20)])
def test_what_is_kept_stays_within_the_memory(build, memory):
    seen = views(40, 80, side=64 if build is large else 8)
    bounded, made = peak(memory, build(), seen)
    free, whole = peak(4 << 30, build(), seen)
    assert bounded < memory < free
    assert set(made.changes) == set(whole.changes), "it still teaches every layer"


def test_a_bound_that_holds_one_view_keeps_one_with_its_trigger():
    subject_model = models.vgg_maxpool()
    subject = subject_of(subject_model, 1)
    made = realign(subject, subject, linears_of(subject_model, subject), views(), Fit(), np.random.default_rng(0))
    assert made.changes
