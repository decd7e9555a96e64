"""What a shortlist of players loses or wins against a game of all channels, for the same number of coalitions.

    python -m tests.benchmarks.shortlist --zoo DIR/zoo --data DIR/data --out RESULTS [--only TEXT ...] [--seeds 3]
    python -m tests.benchmarks.shortlist --out RESULTS --summary

The folders are those of tests.benchmarks.detection. A first round of repair is played with the attacker's own trigger and
one picture a class, by the 24 units that promise most (48 by gradient, tried alone) and by all, in the game of the
product and in the published one (success rate). Walks go on until `--evaluations` coalitions are known; those that tried
units alone come on top, and are counted. ACC and true ASR: on 1,000 test pictures with k units off, the first ones of the
ranking, or those that `choose` takes one after the other, as a repair does, here without a clean budget. It ends where
no unit lowers the value: k is then "at most".
Seconds are of the processor, of the game alone. Seeds draw the walks and the pictures that triggers go on. RESULTS gets
shortlist.jsonl; finished lines are not computed again.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from onnx_shapprune.game.replay import Player
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.prune.clean import clean_rows
from onnx_shapprune.prune.round import Playable, RoundSettings, choose, play
from onnx_shapprune.settings import PLAYERS, PlayersName, ValueName
from tests.benchmarks import lines
from tests.benchmarks.measure import Entry, TrueRates, entries
from tests.benchmarks.quality import MANY, Known

TOPS = (4, 8, 12)
GAMES: tuple[ValueName, ...] = ("dual", "asr")
NETWORKS = ("patch3_mnist_s0_plain", "patch3_mnist_s0_strided", "patch3_cifar10_s0_vgg")


def settings_of(players: PlayersName, value: ValueName, evaluations: int) -> RoundSettings:
    """The product's own settings, but for as many walks as the coalitions are enough for."""
    number = None if players == "all" else 24
    return RoundSettings(players=number, value=value, permutations=MANY, max_evaluations=evaluations, group=max(TOPS))


def pruned(net: Known, players: Sequence[Player]) -> TrueRates:
    """True rates with these players off."""
    layers, off = net.opened.units.layers, dict[str, list[int]]()
    for player in players:
        off.setdefault(layers[player.layer].name, []).append(player.channel)
    return net.scorer.rates(bake(net.opened.file.loaded, layers, off).SerializeToString())


def rows(entry: Entry, o: argparse.Namespace, done: set[tuple[str, str, str, int]]) -> Iterator[dict[str, object]]:
    """What is missing for one network."""
    wanted = [(v, p, s) for v in GAMES for p in o.players for s in range(o.seeds)]
    wanted = [w for w in wanted if (entry.file, *w) not in done]
    if not wanted:
        return
    net = Known(entry, o.zoo, o.data)
    units, work = Playable(layers=net.opened.units.layers, off={}), net.opened.subject.work
    clean = clean_rows(net.shown, [net.trigger.goal], 48, np.random.default_rng(0))
    before = net.scorer.rates(o.zoo / entry.folder / entry.file)
    for value, players, seed in wanted:
        settings = settings_of(players, value, o.evaluations)
        asked, began = work.coalitions, time.process_time()
        played = play(net.shown, [net.trigger], clean, units, settings, np.random.default_rng(seed))
        seconds = time.process_time() - began
        assert played is not None
        asked = work.coalitions - asked
        ranking = [played[0].players[i] for i in played[0].estimate.ranking().tolist()]
        taken = choose(*played, settings, units, limit=max(TOPS))
        for order, chosen in (("ranked", ranking), ("chosen", taken)):
            row = {
                "file": entry.file, "value": value, "players": players, "seed": seed, "order": order,
                "units": net.opened.units.total, "evaluations": asked, "seconds": seconds, "taken": len(taken),
                "acc": before.acc, "asr": before.asr,
            }  # fmt: skip
            for k in TOPS:
                after = pruned(net, chosen[:k])
                row[f"acc@{k}"], row[f"asr@{k}"] = after.acc, after.asr
            yield row


def summary(found: list[dict[str, float]]) -> str:
    """A table: means over seeds, in %, with the range of the ASR."""
    titles = ["network", "game", "players", "order", "coalitions", "s", *(f"ACC / ASR, {k} off" for k in TOPS)]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for file in dict.fromkeys(str(r["file"]) for r in found):
        mine = [r for r in found if r["file"] == file]
        name = f"{file.removesuffix('.onnx')}, {mine[0]['units']} units, {100 * mine[0]['acc']:.1f} / "
        name += f"{100 * mine[0]['asr']:.1f}"
        for value in GAMES:
            for order in ("ranked", "chosen"):
                for players in PLAYERS:
                    keys = (value, order, players)
                    group = [r for r in mine if (r["value"], r["order"], r["players"]) == keys]
                    if group:
                        lines.append(f"| {name} | {value} | {players} | {order} | {' | '.join(cells(group))} |")
                        name = ""
    return "\n".join(lines)


def cells(group: list[dict[str, float]]) -> list[str]:
    """Coalitions, seconds, and rates of the seeds of one line."""
    made = [f"{np.mean([r['evaluations'] for r in group]):,.0f}", f"{np.mean([r['seconds'] for r in group]):.1f}"]
    for k in TOPS:
        acc, asr = ([100 * r[f"{rate}@{k}"] for r in group] for rate in ("acc", "asr"))
        spread = f" ({min(asr):.0f} to {max(asr):.0f})" if len(asr) > 1 else ""
        made.append(f"{np.mean(acc):.1f} / {np.mean(asr):.1f}{spread}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), metavar="TEXT")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=1000, help="of 24 players there are not many more")
    parser.add_argument("--players", nargs="+", default=PLAYERS, choices=PLAYERS)
    parser.add_argument("--summary", action="store_true")
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    results = o.out / "shortlist.jsonl"
    found = lines.read(results)
    if not o.summary:
        done = {(r["file"], r["value"], r["players"], r["seed"]) for r in found}
        for entry in (e for e in entries(o.zoo) if any(text in e.file for text in o.only)):
            lines.keep(rows(entry, o, done), results, found)
    print(summary(found))


if __name__ == "__main__":
    main()
