"""Switching channels off against its rivals: scaling all channels a little, bounding what they may say, and realigning
layers; and of these whether it matters which.

    python -m tests.benchmarks.methods --zoo DIR/zoo --data DIR/data --out RESULTS [--only TEXT ...]
    python -m tests.benchmarks.methods --out RESULTS --summary

The folders are those of tests.benchmarks.detection. Every method is given the attacker's own trigger and one picture a
class, so that only the method differs, and makes a series of networks, from a light to a heavy hand:

* zero: units chosen by the Shapley game, as `shapprune sanitize` does, four after each game;
* scale: a factor in 0..1 for each unit, learnt by Adam on the cross entropy between the answers to triggered and clean
  views and the unchanged network's answers to the clean ones (Adversarial Neuron Pruning, Wu and Wang, NeurIPS 2021,
  learns such factors against perturbed weights); clean views count `weight` times;
* bound: the outputs of a unit are cut at a share of the largest that clean views show (ReLU clipping as in Fine-Pruning's
  rivals; Zheng et al., "Pre-activation Distributions Expose Backdoor Neurons", NeurIPS 2022);
* realign: as `shapprune sanitize` does, with clean rows of six weights: all layers; guided, those whose units hold most of
  the Shapley values of the first game, and those that read them; the last one; and as many as guided ones at random.

Measured on 1,000 test pictures with the true trigger. The summary gives the lowest ASR of each method among its networks
that lose no more than 1, 2 and 4 points of ACC. RESULTS gets methods.jsonl; finished networks are not computed again.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from scipy.special import softmax

from onnx_shapprune.autodiff.loss import attack_gradient
from onnx_shapprune.case.adam import Moments, adam
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.linear import Linear, find_linears, with_products
from onnx_shapprune.graph.mask import insert_masks, mask_name, mask_shape
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.prune.clean import CleanRows, clean_rows
from onnx_shapprune.prune.lesson import Lesson
from onnx_shapprune.prune.proposal import Original, Proposal, applied, edited
from onnx_shapprune.prune.realign import Fit
from onnx_shapprune.prune.round import Playable, Round, RoundSettings, choose, play
from onnx_shapprune.prune.thresholds import RIDGE, STRENGTHS
from onnx_shapprune.runtime.probe import expose, probe
from onnx_shapprune.runtime.session import Array, Device, Session
from tests.benchmarks import lines
from tests.benchmarks.measure import TrueRates, entries
from tests.benchmarks.quality import Known

DEVICE = Device(threads=1)
ROUNDS, GROUP = 6, 4
WEIGHTS, STEPS, ROWS, STEP_SIZE = (3.0, 10.0, 30.0), 60, 36, 0.02
SHARES = (1.5, 1.0, 0.8, 0.6, 0.4)
LOSSES = (0.01, 0.02, 0.04)
CARRIED = 0.8  # share of the positive Shapley values that the guided layers hold
Point = tuple[str, float, TrueRates]  # method, its setting, what it leads to


def zeroed(net: Known, clean: CleanRows, rng: np.random.Generator) -> Iterator[Point]:
    """Groups of units off, each chosen by a game on the network without the earlier ones."""
    opened = net.opened
    shown, layers, settings, proposal = net.shown, opened.units.layers, RoundSettings(group=GROUP), Proposal()
    original = Original(opened.file.loaded, opened.interface, layers)
    for number in range(ROUNDS):
        units = Playable(layers=layers, off=proposal.off)
        played = play(shown, [net.trigger], clean, units, settings, rng)
        if played is None:
            return
        proposal = proposal.further(layers, choose(*played, settings, units, limit=GROUP), played[0])
        file = applied(original, proposal)
        yield "zero", float((number + 1) * GROUP), net.scorer.rates(file.SerializeToString())
        shown = net.shown.on(edited(original, proposal, opened.subject).subject)


def scaled(net: Known, clean: CleanRows, rng: np.random.Generator) -> Iterator[Point]:
    """Factors learnt with clean views of several weights."""
    prepared, layers = net.opened.subject.prepared, net.opened.units.layers
    masked = insert_masks(prepared.model, dict(enumerate(layers)), prepared.infos)
    shapes = {mask_name(i): (1, *mask_shape(layer, prepared.infos)) for i, layer in enumerate(layers)}
    ones: dict[str, Array] = {n: np.ones(s, np.float32) for n, s in shapes.items()}
    feeds = [{prepared.input: np.zeros((n, *prepared.input_shape), np.float32), **ones} for n in (2, 3)]
    infos = probe(masked, feeds[0], feeds[1], DEVICE)
    model = attack_gradient(masked, infos, input_name=prepared.input, logits_name=prepared.logits, wrt=list(shapes))
    session, wanted = Session(model, DEVICE), [f"grad::{n}" for n in shapes]
    known = softmax(clean.shown.logits, axis=1)
    triggered = net.trigger.apply(clean.shown.pictures)
    for weight in WEIGHTS:
        factors = {n: np.ones(s, np.float32) for n, s in shapes.items()}
        moments: dict[str, Moments] = {n: (np.zeros(s), np.zeros(s)) for n, s in shapes.items()}
        for step in range(1, STEPS + 1):
            moved, kept = (rng.integers(0, len(known), ROWS) for _ in range(2))
            x = to_input(
                np.concatenate([triggered[moved], clean.shown.pictures[kept]]), net.opened.subject.preprocessing
            )
            share = np.repeat([1 / ROWS, weight / ROWS], ROWS).astype(np.float32)
            found = session.run(
                {prepared.input: x, **factors, "target": known[np.concatenate([moved, kept])], "w_ce": share,
                 "w_margin": np.zeros(len(x), np.float32), "margin_cap": np.asarray(1e9, np.float32)}, wanted,
            )  # fmt: skip
            for name, gradient in zip(shapes, found, strict=True):
                moments[name], direction = adam(np.asarray(gradient, np.float64), moments[name], step, (0.9, 0.99))
                factors[name] = np.clip(factors[name] - STEP_SIZE * direction, 0, 1).astype(np.float32)
        yield "scale", weight, net.scorer.rates(with_constants(masked, factors).SerializeToString())


def bounded(net: Known, clean: CleanRows, rng: np.random.Generator) -> Iterator[Point]:
    """Outputs of all units cut at shares of what clean views show."""
    prepared, layers = net.opened.subject.prepared, net.opened.units.layers
    names = [layer.tensor for layer in layers]
    session = Session(expose(prepared.model, names), DEVICE)
    shown = session.run({prepared.input: to_input(clean.shown.pictures, net.opened.subject.preprocessing)}, names)
    for share in SHARES:
        limits = {}
        for layer, value in zip(layers, shown, strict=True):
            others = tuple(i for i in range(value.ndim) if i != layer.axis % value.ndim)
            limits[layer.tensor] = (share * np.asarray(value).max(axis=others, keepdims=True)).astype(np.float32)
        yield "bound", share, net.scorer.rates(cut(prepared.model, limits).SerializeToString())


def realigned(net: Known, clean: CleanRows, rng: np.random.Generator) -> Iterator[Point]:
    """All layers realigned, or some."""
    opened = net.opened
    played = play(net.shown, [net.trigger], clean, Playable(layers=opened.units.layers, off={}), RoundSettings(), rng)
    original, prepared = Original(opened.file.loaded, opened.interface, opened.units.layers), opened.subject.prepared
    linears = with_products(find_linears(opened.file.loaded, opened.interface.output, prepared.model)[0])
    if played is None or not linears:
        return
    guided = guided_by(played[0], opened.units.layers, linears, prepared.model)
    drawn = sorted(rng.choice(len(linears), len(guided), replace=False).tolist())
    for name, chosen in (
        ("all", linears), ("guided", guided), ("last", linears[-1:]), ("random", [linears[i] for i in drawn])
    ):  # fmt: skip
        lesson = Lesson(net.shown, opened.subject, chosen, [net.trigger])
        for strength in STRENGTHS:
            made = lesson.fitted(Fit(strength=strength, ridge=RIDGE), np.random.default_rng(0))
            file = applied(original, Proposal(changes=made.changes))
            yield f"realign {name} ({len(chosen)})", strength, net.scorer.rates(file.SerializeToString())


def guided_by(
    played: Round, layers: Sequence[Layer], linears: Sequence[Linear], model: onnx.ModelProto
) -> list[Linear]:
    """The layers whose units hold CARRIED of the positive values, and the next ones that read them."""
    held = np.zeros(len(layers))
    for player, value in zip(played.players, played.estimate.values, strict=True):
        held[player.layer] += max(0.0, float(value))
    order = np.argsort(-held, kind="stable")
    count = 1 + int(np.searchsorted(np.cumsum(held[order]), CARRIED * held.sum()))
    carriers = {layers[i].name: layers[i].tensor for i in order[:count].tolist()}
    reached, read = set(carriers.values()), set()
    for node in model.graph.node:  # in order, so that one pass follows every way
        mine = [one.name for one in linears if one.made in node.output]
        if reached & set(node.input):
            read.update(mine)
            reached.update(() if mine else node.output)
    return [one for one in linears if one.name in read or one.name in carriers]


def with_constants(masked: onnx.ModelProto, factors: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """The masked graph with these masks for good."""
    copy = edit.copy_of(masked)
    kept = [i for i in copy.graph.input if i.name not in factors]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    copy.graph.initializer.extend(edit.tensor_of(value, name) for name, value in factors.items())
    return copy


def cut(model: onnx.ModelProto, limits: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """A copy in which each of these tensors is at most its limit."""
    copy = edit.copy_of(model)
    graph, nodes = copy.graph, list[onnx.NodeProto]()
    for name, limit in limits.items():
        edit.rename_uses(graph, {name: f"{name}__cut"})
        graph.initializer.append(edit.tensor_of(limit, f"{name}__limit"))
    for node in graph.node:
        nodes.append(node)
        nodes += [helper.make_node("Min", [n, f"{n}__limit"], [f"{n}__cut"]) for n in node.output if n in limits]
    edit.keep_nodes(graph, nodes)
    return copy


def summary(found: list[dict[str, float]]) -> str:
    """Per network and method, the lowest ASR at each loss of ACC, in %."""
    lines = [
        f"| network | method | {' | '.join(f'{100 * loss:.0f} points' for loss in LOSSES)} |",
        "|---|---|---|---|---|",
    ]
    for file in dict.fromkeys(str(r["file"]) for r in found):
        mine = [r for r in found if r["file"] == file]
        before = next(r for r in mine if r["method"] == "none")
        for method in dict.fromkeys(str(r["method"]) for r in mine if r["method"] != "none"):
            cells = []
            for loss in LOSSES:
                asr = [r["asr"] for r in mine if r["method"] in (method, "none") and before["acc"] - r["acc"] <= loss]
                cells.append(f"{100 * min(asr):.1f}")
            lines.append(f"| {file.removesuffix('.onnx')} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT")
    parser.add_argument("--summary", action="store_true")
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    results = o.out / "methods.jsonl"
    found = lines.read(results)
    for entry in [] if o.summary else entries(o.zoo):
        known = entry.kind == "all-to-one" and entry.backdoored and entry.data is not None and entry.trigger is not None
        if not known or not any(t in entry.file for t in o.only) or any(r["file"] == entry.file for r in found):
            continue
        net = Known(entry, o.zoo, o.data)
        clean = clean_rows(net.shown, [net.trigger.goal], 48, np.random.default_rng(0))
        points: list[Point] = [("none", 0.0, net.scorer.rates(o.zoo / entry.folder / entry.file))]
        for method in (zeroed, scaled, bounded, realigned):
            points += method(net, clean, np.random.default_rng(0))
        rows = [{"file": entry.file, "method": m, "setting": s, **r.model_dump()} for m, s, r in points]
        lines.keep(rows, results, found)
    print(summary(found))


if __name__ == "__main__":
    main()
