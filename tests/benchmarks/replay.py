"""How fast coalitions are evaluated, and how cost and memory grow.

    python -m tests.benchmarks.replay speed --out FILE.json [--threads N]      # a full-width CIFAR ResNet-18, 19 pictures
    python -m tests.benchmarks.replay growth --out FILE.json [--threads N]     # networks and pictures of several sizes
    python -m tests.benchmarks.replay plot --out FILE.json                     # the latter as FILE.png

speed: a permutation walk over all channels, over those of the last stage, and over those of the last layer: by replay, by
runs of the whole masked graph, and, where torch is installed, by PyTorch with forward hooks. The first two are walked to
the end, with runs of the others in between, so that a busy machine slows all of them; eight walks of the last layer go on
side by side for a few seconds. Beside it the
arithmetic rate: multiply-adds a second of the replay's segments, of the plain forward pass and
of a product of two 2048 x 2048 matrices. growth: seconds per walk, from stretches of steps at eight places of it, and the
peak memory of a process that does nothing else. All weights are random.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx

from onnx_shapprune.game.replay import Player, Replay
from onnx_shapprune.graph.cost import multiply_adds
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.mask import insert_masks, mask_name, mask_shape
from onnx_shapprune.graph.prepare import Prepared, prepare
from onnx_shapprune.graph.units import Layer, find_units
from onnx_shapprune.runtime.session import Device, Session
from tests.benchmarks.shrinking import ShrinkingReplay
from tests.models import Net

PICTURES = 19  # ten clean, nine triggered
SIDE_BY_SIDE = 8
STEPS = 3  # in each stretch of `growth`
# (units wanted, pictures, edge of a picture, blocks per stage, bottleneck)
GROWTH = [
    *((width, pictures, 32, (2, 2, 2, 2), False) for width in (16, 64, 208) for pictures in (10, 100)),
    *((64, pictures, 224, (3, 4, 6, 3), True) for pictures in (10, 100)),
]


def resnet(width: int, size: int, blocks: Sequence[int], *, bottleneck: bool) -> onnx.ModelProto:
    """A ResNet with random weights, BatchNorm folded; stem and pooling of ImageNet for pictures above 64 pixels."""
    n = Net(0)

    def conv(x: str, before: int, after: int, kernel: int, stride: int = 1) -> str:
        w, b = (
            n.normal(after, before, kernel, kernel, scale=(2 / (before * kernel**2)) ** 0.5),
            n.normal(after, scale=0.1),
        )
        return n.op("Conv", x, w, b, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)

    if size > 64:
        x = n.op("Relu", conv("x", 3, width, 7, 2))
        x = n.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    else:
        x = n.op("Relu", conv("x", 3, width, 3))
    before = width
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        after = inner * 4 if bottleneck else inner
        for block in range(count):
            stride = 2 if stage and not block else 1
            if bottleneck:
                y = n.op("Relu", conv(x, before, inner, 1))
                y = conv(n.op("Relu", conv(y, inner, inner, 3, stride)), inner, after, 1)
            else:
                y = conv(n.op("Relu", conv(x, before, inner, 3, stride)), inner, after, 3)
            short = x if before == after and stride == 1 else conv(x, before, after, 1, stride)
            x, before = n.op("Relu", n.op("Add", y, short)), after
    x = n.op("Flatten", n.op("GlobalAveragePool", x))
    return n.model(n.dense(x, before, 10), shape=(3, size, size), classes=10)


def opened(model: onnx.ModelProto, device: Device) -> tuple[Prepared, tuple[Layer, ...]]:
    interface = find_interface(model)
    dims = tuple(d for d in interface.dims if d is not None)
    return prepare(model, interface, dims, device), find_units(model, model.graph.output[0].name).layers


def players_of(layers: Sequence[Layer], which: Callable[[int], bool] = lambda i: True) -> list[Player]:
    return [Player(i, c) for i, layer in enumerate(layers) if which(i) for c in range(layer.channels)]


class Counting(Replay):
    """Counts the multiply-adds of the segments that were run."""

    multiply_adds = 0

    def _compute(self, part, s, rows, *rest):  # type: ignore[no-untyped-def]
        one = multiply_adds(self._segments[s].model, self._prepared.infos)
        self.multiply_adds += one * len(rows) * len(self._parts[part])
        return super()._compute(part, s, rows, *rest)


def timed(run: Callable[[], object], least: float = 2.0) -> float:
    """Seconds a call, over at least `least` seconds."""
    run()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < least:
        run()
        count += 1
    return (time.perf_counter() - start) / count


def hooks(width: int, x: np.ndarray, threads: int, place: str = "cpu") -> Callable[[], object] | None:
    """A run of the same architecture in PyTorch, every convolution's output multiplied by a mask in a forward hook. place:
    PyTorch's device. None where there is no PyTorch.
    """
    try:
        import torch
        from torch import nn
    except ImportError:
        return None
    torch.set_num_threads(threads)

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(before, after, 3, stride, 1)
            self.second = nn.Conv2d(after, after, 3, 1, 1)
            self.short = nn.Conv2d(before, after, 1, stride) if stride > 1 or before != after else nn.Identity()

        def forward(self, x):  # type: ignore[no-untyped-def]
            return torch.relu(self.second(torch.relu(self.first(x))) + self.short(x))

    stages = [Block(max(width, width * 2 ** (s - (b == 0))), width * 2**s, 2 if s and not b else 1)
              for s in range(4) for b in range(2)]  # fmt: skip
    net = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1), nn.ReLU(), *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(width * 8, 10)).eval().to(place)  # fmt: skip
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            mask = torch.ones(1, module.out_channels, 1, 1, device=place)
            module.register_forward_hook(lambda _m, _i, out, mask=mask: out * mask)
    shown = torch.from_numpy(x).to(place)

    def run() -> object:
        with torch.no_grad():
            return net(shown).cpu()

    return run


def lockstep(replay: Replay, walks: int, least: float) -> float:
    """Seconds a coalition of walks side by side, from their middle on."""
    count = len(replay.players)
    orders = [np.random.default_rng(i).permutation(count) for i in range(walks)]
    on = np.ones((walks, count), bool)
    for w, order in enumerate(orders):
        on[w, order[: count // 2]] = False
    replay(on)
    start, step = time.perf_counter(), count // 2
    while step < count and time.perf_counter() - start < least:
        for w, order in enumerate(orders):
            on[w, order[step]] = False
        replay(on)
        step += 1
    return (time.perf_counter() - start) / (step - count // 2) / walks


def speed(threads: int, width: int = 64) -> dict[str, object]:
    device = Device(threads=threads)
    prepared, layers = opened(resnet(width, 32, (2, 2, 2, 2), bottleneck=False), device)
    x = np.random.default_rng(0).random((PICTURES, 3, 32, 32), np.float32)
    masked = Session(insert_masks(prepared.model, dict(enumerate(layers)), prepared.infos), device)
    ones = {mask_name(i): np.ones((1, *mask_shape(u, prepared.infos)), np.float32) for i, u in enumerate(layers)}
    plain = Session(prepared.model, device)
    rivals = {
        "whole graph": lambda: masked.run({prepared.input: x, **ones}),
        "plain forward pass": lambda: plain.run({prepared.input: x}),
    }
    hooked = hooks(width, x, threads)
    if hooked:
        rivals["PyTorch hooks"] = hooked
    everyone = players_of(layers)
    found: dict[str, object] = {"threads": threads, "units": len(everyone), "pictures": PICTURES}

    spent: dict[str, list[float]] = {name: [] for name in rivals}
    for run in rivals.values():
        run()
    stage, last = (lambda i: layers[i].channels == 8 * width), layers[-1].tensor
    for what, players in (("whole network", everyone), ("last stage", players_of(layers, stage))):
        replay = ShrinkingReplay(prepared, layers, players, x, device)
        order, on, ours = np.random.default_rng(0).permutation(len(players)), np.ones((1, len(players)), bool), 0.0
        for step, player in enumerate(order):
            on[0, player] = False
            start = time.perf_counter()
            replay(on)
            ours += time.perf_counter() - start
            if step % (len(order) // 24) == 0:
                for name, run in rivals.items():
                    start = time.perf_counter()
                    run()
                    spent[name].append(time.perf_counter() - start)
        found[f"ms, {what}"] = 1e3 * ours / len(order)
    found["ms, rivals"] = {name: 1e3 * float(np.median(times)) for name, times in spent.items()}

    counting = Counting(prepared, layers, players_of(layers, stage), x, device)
    counting.multiply_adds = 0
    start = time.perf_counter()
    found["ms, last stage, eight walks side by side"] = 1e3 * lockstep(counting, SIDE_BY_SIDE, 8.0)
    rate = counting.multiply_adds / (time.perf_counter() - start)
    tail = Replay(prepared, layers, players_of(layers, lambda i: layers[i].tensor == last), x, device)
    found["ms, last layer"] = 1e3 * lockstep(tail, SIDE_BY_SIDE, 4.0)
    square = np.random.default_rng(0).random((2048, 2048), np.float32)
    product = Session(matmul(2048), device)
    forward = multiply_adds(prepared.model, prepared.infos) * PICTURES
    found["multiply-adds a second"] = {
        "replay, last stage": rate,
        "plain forward pass": forward / timed(rivals["plain forward pass"]),
        "matrix product": 2048**3 / timed(lambda: product.run({"a": square, "b": square})),
    }
    return found


def matmul(size: int) -> onnx.ModelProto:
    shape = [size, size]
    a, b, c = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in "abc")
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["a", "b"], ["c"])], "product", [a, b], [c])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def one_size(
    width: int, pictures: int, size: int, blocks: Sequence[int], bottleneck: bool, threads: int
) -> dict[str, float]:
    """Seconds of a walk and peak memory of this process."""
    device = Device(threads=threads)
    prepared, layers = opened(resnet(width, size, blocks, bottleneck=bottleneck), device)
    everyone = players_of(layers)
    x = np.random.default_rng(0).random((pictures, 3, size, size), np.float32)
    replay = ShrinkingReplay(prepared, layers, everyone, x, device)
    order, on, rates = np.random.default_rng(0).permutation(len(everyone)), np.ones((1, len(everyone)), bool), []
    for place in range(8):
        first = len(order) * (2 * place + 1) // 16
        on[0, order[:first]] = False
        replay(on)
        start = time.perf_counter()
        for player in order[first : first + STEPS]:
            on[0, player] = False
            replay(on)
        rates.append((time.perf_counter() - start) / STEPS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"units": len(everyone), "pictures": pictures, "edge": size, "seconds a walk": float(np.mean(rates)) * len(order),
            "peak MiB": peak, "weights MiB": prepared.model.ByteSize() / 2**20}  # fmt: skip


def growth(threads: int, out: Path) -> list[dict[str, float]]:
    """Every size in a process of its own; sizes that `out` has are not run again."""
    rows: list[dict[str, float]] = json.loads(out.read_text()) if out.exists() else []
    for number in range(len(rows), len(GROWTH)):
        line = [
            sys.executable,
            "-m",
            "tests.benchmarks.replay",
            "size",
            "--number",
            str(number),
            "--threads",
            str(threads),
        ]
        rows.append(json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout))
        out.write_text(json.dumps(rows, indent=1))
        print(rows[-1], flush=True)
    return rows


def plot(rows: Sequence[dict[str, float]], png: Path) -> None:
    """Seconds a walk and peak memory over units, a line for each number of pictures; single networks as points."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key, title in zip(
        axes, ("seconds a walk", "peak MiB"), ("seconds per permutation", "peak memory, MiB"), strict=True
    ):
        for pictures, colour in ((10, "C0"), (100, "C1")):
            for edge, style in ((32, "o-"), (224, "s")):
                mine = sorted(
                    (r for r in rows if r["pictures"] == pictures and r["edge"] == edge), key=lambda r: r["units"]
                )
                label = f"{pictures} pictures of {edge} x {edge}"
                axis.loglog([r["units"] for r in mine], [r[key] for r in mine], style, color=colour, label=label)
        units = sorted({int(r["units"]) for r in rows})
        axis.set_xticks(units, [f"{n:,}" for n in units])
        axis.minorticks_off()
        axis.set_xlabel("units")
        axis.set_title(title)
        axis.grid(alpha=0.3)
    axes[1].set_yticks(ticks := [200, 500, 1000, 2000, 4000], [f"{n:,}" for n in ticks])
    axes[0].legend(fontsize="small")
    figure.savefig(png, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "growth", "plot", "size"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--number", type=int, default=0)
    o = parser.parse_args()
    if o.what == "size":
        print(json.dumps(one_size(*GROWTH[o.number], o.threads)))
    elif o.what == "growth":
        growth(o.threads, o.out)
    elif o.what == "plot":
        plot(json.loads(o.out.read_text()), o.out.with_suffix(".png"))
    else:
        found = speed(o.threads)
        print(json.dumps(found, indent=1))
        if o.out:
            o.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
