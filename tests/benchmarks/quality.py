"""Compare the Shapley estimators, and two rivals that play no game, on backdoored networks with known triggers.

    python -m tests.benchmarks.quality --zoo DIR/zoo --data DIR/data --out RESULTS [--only TEXT ...] [--seeds 5]
    python -m tests.benchmarks.quality --out RESULTS --summary

The folders are those of tests.benchmarks.detection. Per network the dual game is played with the true trigger, by the units
with the largest first-order effect. Reference: antithetic walks without a threshold, to the end. Every estimator then
gets the same number of distinct coalitions. precision@k: share of its first k units that are among the reference's
first k. ACC and ASR: measured on 1,000 test pictures with these k units switched off. Seeds vary the estimator only.
RESULTS gets quality.jsonl, a line for each network, method and seed; finished lines are not computed again.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import open_model
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.game.replay import Player
from onnx_shapprune.game.value import DualGame
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.prune.clean import clean_rows
from onnx_shapprune.prune.round import Playable, RoundSettings, estimate_values, play
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Device, Session
from onnx_shapprune.settings import InputOptions
from onnx_shapprune.shapley.antithetic import AntitheticSettings, antithetic
from tests.benchmarks import lines
from tests.benchmarks.detection import pictures
from tests.benchmarks.measure import Entry, Scorer, TrueTrigger, entries, few_shot

Floats = NDArray[np.float64]
TOPS = (8, 16, 32)
MEASURED = 1000
NETWORKS = ("ibau_cifar10_trojan_sq", "nad_cifar10_wrn161_gridtrigger_t5", "badnets_r18w16")
MANY = 100_000  # walks: the budget ends an estimate, not their number


def methods(evaluations: int) -> dict[str, RoundSettings]:
    """Estimators by name, all with the same budget."""
    plain = RoundSettings(permutations=MANY, epsilon=None, discard_threshold=None, max_evaluations=evaluations, group=8)
    cut = replace(plain, discard_threshold=0.1)
    return {
        "permutation": plain,
        "permutation, threshold": cut,
        "permutation, threshold, epsilon-greedy": replace(cut, epsilon=0.3),
        "antithetic": replace(plain, estimator="antithetic"),
        "antithetic, threshold": replace(cut, estimator="antithetic"),
        "leverage": replace(plain, estimator="leverage"),
        "top-k, threshold": replace(cut, estimator="top-k"),
    }


class Known:
    """One opened network with so many pictures a class, float32 in 0..255, and the trigger that its attacker used."""

    def __init__(self, entry: Entry, zoo: Path, data: Path, *, per_class: int = 1, seed: int = 0) -> None:
        def numbers(value: float | tuple[float, ...]) -> tuple[float, ...]:
            return value if isinstance(value, tuple) else (value,)

        inputs = InputOptions(
            input_range=(0, 255 / entry.scale), mean=numbers(entry.mean), std=numbers(entry.std), layout=entry.layout
        )
        self.opened = open_model(zoo / entry.folder / entry.file, inputs, Device(threads=1))
        x, y, x_test, y_test = pictures(data / f"{entry.data}.npz")
        shown, labels = few_shot(x, y, entry.classes, per_class, np.random.default_rng(seed))
        self.shown = Shown.to(self.opened.subject, shown.astype(np.float32), labels)
        assert entry.trigger is not None
        assert entry.target is not None
        true = TrueTrigger.load(zoo / "triggers" / f"{entry.trigger}.npz")

        class Stamped(Trigger):  # some triggers are added, not pasted
            def apply(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
                return true.stamp(pictures)

        self.trigger = Stamped(true.mask, true.pattern, Goal(entry.target), "known")
        self.scorer = Scorer(entry, zoo, x_test[:MEASURED], y_test[:MEASURED], threads=1)


class Network(Known):
    """A known network, its game with the true trigger, and the reference values float64 (players,)."""

    def __init__(self, entry: Entry, zoo: Path, data: Path, *, players: int, pairs: int) -> None:
        super().__init__(entry, zoo, data)
        rng = np.random.default_rng(0)
        played = play(
            self.shown, [self.trigger], clean_rows(self.shown, [self.trigger.goal], 48, rng),
            Playable(layers=self.opened.units.layers, off={}),
            RoundSettings(shortlist=players, players=players, permutations=2), rng,
        )  # fmt: skip
        assert played is not None
        self.game: DualGame = played[1]
        self.players: tuple[Player, ...] = played[0].players
        self.alone = self.game(np.ones((1, len(self.players)), bool)) - self.game(
            ~np.eye(len(self.players), dtype=bool)
        )
        settings = AntitheticSettings(pairs=pairs, lockstep=16)
        found = antithetic(self.game, len(self.players), settings=settings, rng=np.random.default_rng(99)).run()
        self.reference, self.errors = found.values, found.standard_errors

    def activation_difference(self) -> Floats:
        """Mean output of each player's channel with the trigger minus without it, over its deviation, in magnitude."""
        layers, prepared = self.opened.units.layers, self.opened.subject.prepared
        names = sorted({layers[p.layer].tensor for p in self.players})
        session = Session(expose(prepared.model, names), Device(threads=1))
        clean = self.shown.pictures
        both = [to_input(x, self.opened.subject.preprocessing) for x in (clean, self.trigger.apply(clean))]
        means = []
        for x in both:
            found = dict(zip(names, session.run({prepared.input: x}, names), strict=True))
            columns = []
            for p in self.players:
                value, axis = found[layers[p.layer].tensor], layers[p.layer].axis
                columns.append(np.moveaxis(value, axis, 1)[:, p.channel].reshape(len(x), -1).mean(axis=1))
            means.append(np.stack(columns, axis=1))
        deviation = means[0].std(axis=0) + 1e-6
        return np.asarray(np.abs((means[1] - means[0]).mean(axis=0)) / deviation, np.float64)

    def pruned(self, best: NDArray[np.int64]) -> tuple[float, float]:
        """True ACC and ASR with these players off."""
        layers, off = self.opened.units.layers, {}
        for i in best:
            player = self.players[int(i)]
            off.setdefault(layers[player.layer].name, []).append(player.channel)
        rates = self.scorer.rates(bake(self.opened.file.loaded, layers, off).SerializeToString())
        assert rates.asr is not None
        return rates.acc, rates.asr

    def score(self, values: Floats) -> dict[str, float]:
        best, truth = (np.argsort(-v, kind="stable") for v in (values, self.reference))
        found = {}
        for k in TOPS:
            found[f"precision@{k}"] = len(np.intersect1d(best[:k], truth[:k])) / k
            found[f"acc@{k}"], found[f"asr@{k}"] = self.pruned(best[:k])
        return found


def rows(entry: Entry, o: argparse.Namespace, done: set[tuple[str, str, int]]) -> Iterator[dict[str, object]]:
    """What is missing for one network."""
    estimators = methods(o.evaluations)
    wanted = [(name, seed) for name in estimators for seed in range(o.seeds)]
    wanted += [("reference", 0), ("leave-one-out", 0), ("activation difference", 0)]
    wanted = [(name, seed) for name, seed in wanted if (entry.file, name, seed) not in done]
    if not wanted:
        return
    net = Network(entry, o.zoo, o.data, players=o.players, pairs=o.pairs)
    known = {"reference": lambda: net.reference, "leave-one-out": lambda: net.alone,
             "activation difference": net.activation_difference}  # fmt: skip
    asked = {"reference": 2 * o.pairs * o.players, "leave-one-out": o.players, "activation difference": 0}
    for name, seed in wanted:
        if name in known:
            values, evaluations = known[name](), asked[name]
        else:
            players = len(net.players)
            found = estimate_values(net.game, players, net.game.strength, estimators[name], np.random.default_rng(seed))
            values, evaluations = found.values, found.evaluations
        yield {"file": entry.file, "method": name, "seed": seed, "evaluations": evaluations, **net.score(values)}


def summary(found: list[dict[str, float]]) -> str:
    """A table per network: means over seeds, precision with its 95 % interval."""
    lines = []
    for file in dict.fromkeys(str(r["file"]) for r in found):
        lines += ["", f"**{file.removesuffix('.onnx')}**", ""]
        titles = ["method", "coalitions", *(f"precision@{k}" for k in TOPS), *(f"ACC / ASR, {k} off" for k in TOPS)]
        lines += [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
        mine = [r for r in found if r["file"] == file]
        for name in dict.fromkeys(str(r["method"]) for r in mine):
            group = [r for r in mine if r["method"] == name]
            cells = [name, f"{np.mean([r['evaluations'] for r in group]):.0f}"]
            for k in TOPS:
                p = np.array([r[f"precision@{k}"] for r in group])
                half = student.ppf(0.975, len(p) - 1) * p.std(ddof=1) / len(p) ** 0.5 if len(p) > 1 else 0
                cells.append(f"{p.mean():.2f} ± {half:.2f}" if len(p) > 1 else f"{p.mean():.2f}")
            for k in TOPS:
                acc, asr = (100 * np.mean([r[f"{rate}@{k}"] for r in group]) for rate in ("acc", "asr"))
                cells.append(f"{acc:.1f} / {asr:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), metavar="TEXT")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--players", type=int, default=96)
    parser.add_argument("--pairs", type=int, default=100, help="of walks of the reference")
    parser.add_argument("--evaluations", type=int, default=1000)
    parser.add_argument("--summary", action="store_true")
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    results = o.out / "quality.jsonl"
    found = lines.read(results)
    if not o.summary:
        done = {(r["file"], r["method"], r["seed"]) for r in found}
        for entry in (e for text in o.only for e in entries(o.zoo) if text in e.file):
            lines.keep(rows(entry, o, done), results, found)
    print(summary(found))


if __name__ == "__main__":
    main()
