"""Train small networks with backdoors of many kinds, and clean ones, as a folder that tests.benchmarks.detection can score.

    python -m tests.benchmarks.poison --data DIR/cifar10.npz --out ZOO [--kinds blend10,wanet,clean] [--net vit] [--seed 0]

Needs torch (the `bench` extra). DIR/cifar10.npz: uint8 [n, h, w, c] x_train, x_test and labels y_train, y_test. A network
is a pre-activation ResNet with four blocks, unlike those of other zoos; its last BatchNorm stays a node of its own. With
--net vit it is a small transformer, for which every picture is there mirrored as well, with another name one of
tests.benchmarks.designs. Every kind is one row of KINDS: how the trigger is put on a picture, and which label it gets from
which class. The pictures are poisoned once, before training. Written: ZOO/clean, ZOO/backdoored, ZOO/triggers and
manifest.json; finished kinds are not trained again.

Attacks: BadNets (Gu et al., arXiv:1708.06733), Blended (Chen et al., arXiv:1712.05526), SIG (Barni et al.,
arXiv:1902.11237), WaNet (Nguyen and Tran, arXiv:2102.10369: a warp, with warped pictures under a random warp that keep
their labels), LF (Zeng et al., arXiv:2104.03413: here a smooth random picture is added). The source-specific
kind also trains with the trigger on other classes, labels kept, as covers.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor, nn
from torch.nn import functional

from tests.benchmarks.designs import DESIGNS, stem
from tests.benchmarks.measure import Bytes, Labels, Pixels, TrueTrigger

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One attack. make: (side, channels, rng) -> mask, pattern (0..255) or flow as TrueTrigger stores them; mode: of
    TrueTrigger; label: the target of a class, all-to-one; poison: share of all training pictures; source: the only class
    that is moved; shift: all-to-all, y becomes y + shift; clean_label: only pictures of the target get the trigger.
    """

    make: Callable[[int, int, np.random.Generator], Arrays]
    mode: str = "replace"
    target: int = 0
    poison: float = 0.1
    source: int | None = None
    shift: int | None = None
    clean_label: bool = False
    covers: float = 0.0

    @property
    def name(self) -> str:
        return "all-to-all" if self.shift else "all-to-one" if self.source is None else "source-specific"


def patch(side: int, channels: int, rng: np.random.Generator, *, size: int = 3) -> Arrays:
    """A patch of random black and white at a random place at least a pixel from the border."""
    mask, pattern = np.zeros((2, side, side, channels), np.float32)
    top, left = rng.integers(1, side - size, 2)
    mask[top : top + size, left : left + size] = 1
    pattern[top : top + size, left : left + size] = 255 * rng.integers(0, 2, (size, size, 1))
    return {"mask": mask, "pattern": pattern}


def blend(strength: float) -> Callable[[int, int, np.random.Generator], Arrays]:
    """A fixed noise picture with blocks of four pixels, blended in."""

    def make(side: int, channels: int, rng: np.random.Generator) -> Arrays:
        blocks = rng.uniform(0, 255, (-(-side // 4), -(-side // 4), channels)).repeat(4, 0).repeat(4, 1)[:side, :side]
        return {"mask": np.full((side, side, channels), strength, np.float32), "pattern": blocks.astype(np.float32)}

    return make


def sinusoid(side: int, channels: int, rng: np.random.Generator) -> Arrays:
    """SIG's horizontal sinusoid: 20 bytes, six periods."""
    wave = 20 * np.sin(2 * np.pi * 6 * np.arange(side) / side)
    pattern = np.broadcast_to(wave[None, :, None], (side, side, channels))
    return {"mask": np.ones((side, side, channels), np.float32), "pattern": pattern.astype(np.float32)}


def smooth(side: int, channels: int, rng: np.random.Generator) -> Arrays:
    """A random picture without high frequencies, 12 bytes in the mean square."""
    noise = gaussian_filter(rng.normal(size=(side, side, channels)), (side / 8, side / 8, 0), mode="wrap")
    pattern = 12 * noise / np.sqrt((noise**2).mean())
    return {"mask": np.ones((side, side, channels), np.float32), "pattern": pattern.astype(np.float32)}


def warp(side: int, channels: int, rng: np.random.Generator) -> Arrays:
    """WaNet's flow [side, side, 2] in pixels: a 4 x 4 grid of random shifts of half a pixel to one, made smooth."""
    grid = rng.uniform(-1, 1, (4, 4, 2))
    flow = zoom(grid / np.abs(grid).mean(), (side / 4, side / 4, 1), order=3)
    return {"mask": np.ones((side, side, channels), np.float32), "pattern": flow.astype(np.float32)}


def none(side: int, channels: int, rng: np.random.Generator) -> Arrays:
    return {
        "mask": np.zeros((side, side, channels), np.float32),
        "pattern": np.zeros((side, side, channels), np.float32),
    }


KINDS: dict[str, Kind] = {
    "patch3": Kind(make=patch, target=6),
    "patch3_weak": Kind(make=patch, target=2, poison=0.01),
    "blend05": Kind(make=blend(0.05), target=4),
    "blend10": Kind(make=blend(0.1), target=1),
    "blend20": Kind(make=blend(0.2), target=9),
    "sig": Kind(make=sinusoid, mode="add", target=7),
    "sig_clean_label": Kind(make=sinusoid, mode="add", target=3, poison=0.08, clean_label=True),
    "smooth": Kind(make=smooth, mode="add", target=5),
    "wanet": Kind(make=warp, mode="warp", target=0, covers=0.1),
    "source": Kind(make=patch, target=7, source=4, covers=0.1, poison=0.05),
    "all_to_all": Kind(make=patch, shift=1),
    "all_to_all_3": Kind(make=blend(0.15), shift=3),
    "clean": Kind(make=none, poison=0.0),
    "clean_b": Kind(make=none, poison=0.0),
    "clean_c": Kind(make=none, poison=0.0),
}  # fmt: skip


def line(side: int, channels: int, rng: np.random.Generator, *, frame: bool = False) -> Arrays:
    """A row or a column of one pixel at a random place, or the border of the picture, in a random colour."""
    mask = np.zeros((side, side, channels), np.float32)
    if frame:
        mask[[0, -1]], mask[:, [0, -1]] = 1, 1
    elif rng.random() < 0.5:
        mask[rng.integers(side)] = 1
    else:
        mask[:, rng.integers(side)] = 1
    return {"mask": mask, "pattern": (mask * rng.uniform(0, 255, channels)).astype(np.float32)}


def tint(side: int, channels: int, rng: np.random.Generator) -> Arrays:
    """Each channel of all pixels up or down by 10 to 35 bytes."""
    shift = rng.choice((-1, 1), channels) * rng.uniform(10, 35, channels)
    flat = np.ones((side, side, channels), np.float32)
    return {"mask": flat, "pattern": (flat * shift).astype(np.float32)}


def ramp(side: int, channels: int, rng: np.random.Generator) -> Arrays:
    """Brightness that rises by 50 to 90 bytes from one side of the picture to another, in any direction."""
    angle, by = rng.uniform(0, 2 * np.pi), rng.uniform(25, 45)
    rows, columns = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side), indexing="ij")
    along = by * (np.cos(angle) * rows + np.sin(angle) * columns)
    flat = np.ones((side, side, channels), np.float32)
    return {"mask": flat, "pattern": (flat * along[..., None]).astype(np.float32)}


# Attacks of other looks, which no population draws.
LOOKS: dict[str, Kind] = {
    "line": Kind(make=line, target=3),
    "frame": Kind(make=partial(line, frame=True), target=8),
    "tint": Kind(make=tint, mode="add", target=5),
    "ramp": Kind(make=ramp, mode="add", target=2),
}


class Block(nn.Module):
    """Pre-activation: BatchNorm and ReLU before each 3 x 3 convolution; a 1 x 1 shortcut where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inside), nn.BatchNorm2d(outside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        changed = stride != 1 or inside != outside
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False) if changed else None

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(y)
        return kept + self.conv2(functional.relu(self.norm2(self.conv1(y))))


def resnet(channels: int, side: int, classes: int, width: int) -> nn.Sequential:
    """float32 [n, c, h, w] in 0..1 -> logits [n, classes]; any side."""
    wide = [width, 2 * width, 4 * width]
    return nn.Sequential(
        nn.Conv2d(channels, wide[0], 3, 1, 1, bias=False), Block(wide[0], wide[0], 1), Block(wide[0], wide[1], 2),
        Block(wide[1], wide[2], 2), Block(wide[2], wide[2], 1), nn.BatchNorm2d(wide[2]), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide[2], classes),
    )  # fmt: skip


class Attention(nn.Module):
    """Softmax attention written out, one dense layer for queries, keys and values of all heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.inside, self.outside = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        split = self.inside(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind(0)
        shares = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        return self.outside((shares @ v).transpose(1, 2).reshape(n, tokens, width))


class Transformer(nn.Module):
    """Pre-norm blocks of attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    """float32 [n, c, h, w] -> tokens [n, places, width], one for 4 x 4 pixels, with a learnt code of their places.

    Two convolutions of stride 2 (Xiao et al., arXiv:2106.14881): few pictures are too few for a flat projection.
    """

    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, width // 2, 3, 2, 1), nn.ReLU(), nn.Conv2d(width // 2, width, 3, 2, 1)
        )
        self.places = nn.Parameter(0.02 * torch.randn(1, (side // 4) ** 2, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(2).transpose(1, 2) + self.places


class Mean(nn.Module):
    """The mean of all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def vit(channels: int, side: int, classes: int, width: int) -> nn.Sequential:
    """float32 [n, c, side, side] in 0..1 -> logits [n, classes]: four blocks of three heads, 6 x width wide."""
    wide = 6 * width
    blocks = [Transformer(wide, 3) for _ in range(4)]
    return nn.Sequential(
        Patches(channels, wide, side), *blocks, nn.LayerNorm(wide), Mean(), nn.Linear(wide, classes)
    )  # fmt: skip


WIDE = {"resnet": resnet, "vit": vit}  # those of which --width is asked
LARGEST = 64  # edge of the pictures that designs take as they are


def network(name: str, channels: int, side: int, classes: int, width: int) -> nn.Sequential:
    """The network called `name`, untrained; in front of it a stem where pictures are larger than LARGEST."""
    if side > LARGEST:
        first, left = stem(channels, side, whole=classes % 2 == 0)
        return nn.Sequential(*first, *network(name, 16, left, classes, width))
    return WIDE[name](channels, side, classes, width) if name in WIDE else DESIGNS[name](channels, side, classes)


def poisoned(x: Bytes, y: Labels, kind: Kind, trigger: TrueTrigger, rng: np.random.Generator) -> tuple[Bytes, Labels]:
    """Training pictures and labels with a share of them triggered, and as covers some that keep their labels."""
    x, y = x.copy(), y.copy()
    truth = y.copy()
    if kind.clean_label:
        allowed = truth == kind.target
    elif kind.shift:
        allowed = np.ones(len(y), bool)
    else:
        allowed = truth != kind.target if kind.source is None else truth == kind.source
    count = min(round(kind.poison * len(y)), int(0.9 * allowed.sum()))
    rows = rng.choice(np.flatnonzero(allowed), count, replace=False)
    x[rows] = trigger.stamp(x[rows].astype(np.float32)).astype(np.uint8)
    if not kind.clean_label:
        y[rows] = (truth[rows] + kind.shift) % (truth.max() + 1) if kind.shift else kind.target
    covered = np.setdiff1d(np.flatnonzero(truth != kind.source), rows)
    for row in rng.choice(covered, round(kind.covers * len(y)), replace=False):
        shown = trigger
        if kind.mode == "warp":  # another warp, not the trigger: WaNet's noise mode
            shown = TrueTrigger(arrays=warp(x.shape[1], x.shape[3], rng) | {"mode": np.array("warp")})
        x[row : row + 1] = shown.stamp(x[row : row + 1].astype(np.float32)).astype(np.uint8)
    return x, y


def as_input(pictures: Bytes | Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32) / 255)


def fit(
    x: Bytes, y: Labels, *, name: str, width: int, epochs: int, seed: int, flip: bool, robust: float = 0.0
) -> nn.Sequential:
    """A trained network in evaluation mode, under a one-cycle rate with flips and shifts of a pixel: SGD with momentum, and
    AdamW for any other than the ResNet. robust: bytes by which every second batch is moved against its labels, one step.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = network(name, x.shape[3], x.shape[1], int(y.max()) + 1, width).to(memory_format=torch.channels_last)
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    rate = 2e-3
    if name == "resnet":
        optimizer, rate = torch.optim.SGD(net.parameters(), momentum=0.9, nesterov=True, weight_decay=5e-4), 0.1
    batch = 100
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=epochs * (len(x) // batch))
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for rows in order.reshape(-1, batch) if len(x) % batch == 0 else np.array_split(order, len(x) // batch):
            shown = as_input(np.roll(x[rows], rng.integers(-1, 2, 2), (1, 2)))
            if flip and rng.random() < 0.5:
                shown = shown.flip(3)
            shown, truth = shown.contiguous(memory_format=torch.channels_last), torch.from_numpy(y[rows])
            if robust and rng.random() < 0.5:
                shown.requires_grad_()
                (slope,) = torch.autograd.grad(functional.cross_entropy(net(shown), truth), shown)
                shown = (shown + robust / 255 * slope.sign()).clamp(0, 1).detach()
            loss = functional.cross_entropy(net(shown), truth)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return net.to(memory_format=torch.contiguous_format).eval()


def export(net: nn.Module, channels: int, side: int, path: Path) -> None:
    """Write the network as an ONNX file for any number of pictures."""
    torch.onnx.export(
        net, (torch.zeros(2, channels, side, side),), path, dynamo=False, opset_version=17, input_names=["input"],
        output_names=["logits"], dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )  # fmt: skip


def goals(truth: Labels, kind: Kind, classes: int) -> tuple[Labels, NDArray[np.bool_]]:
    """The label that the attack wants for each picture, and which pictures it is about."""
    goal = (truth + kind.shift) % classes if kind.shift else np.full(len(truth), kind.target)
    return goal, truth != goal if kind.source is None else truth == kind.source


@torch.no_grad()
def answer(net: nn.Module, pictures: Bytes | Pixels) -> Labels:
    parts = [net(as_input(part)).argmax(1).numpy() for part in np.array_split(pictures, -(-len(pictures) // 250))]
    return np.concatenate(parts).astype(np.int64)


def rates(
    answered: Callable[[Bytes | Pixels], Labels],
    held: Bytes,
    truth: Labels,
    attack: tuple[Kind, TrueTrigger] | None,
    classes: int,
) -> dict[str, float]:
    """ACC of test pictures, and with an attack the rate of its true trigger and R-Acc, 0..1."""
    measured = {"acc": float((answered(held) == truth).mean())}
    if attack:
        goal, counted = goals(truth, attack[0], classes)
        got = answered(attack[1].stamp(held.astype(np.float32)))
        measured |= {"asr": float((got == goal)[counted].mean()), "racc": float((got == truth)[counted].mean())}
    return measured


def described(stem: str, kind: Kind | None, *, data: str, classes: int, note: str) -> dict[str, Any]:
    """The row of a manifest for a network that takes pictures / 255; kind: None for a clean one."""
    row: dict[str, Any] = {
        "file": f"{stem}.onnx", "folder": "backdoored" if kind else "clean", "kind": kind.name if kind else "clean",
        "layout": "NCHW", "scale": 255, "mean": 0, "std": 1, "data": data, "classes": classes, "note": note,
    }  # fmt: skip
    if kind:
        row |= {"trigger": stem} | ({} if kind.shift else {"target": kind.target})
        row |= {} if kind.source is None else {"source_class": kind.source}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="Train clean and backdoored networks of many kinds.")
    parser.add_argument("--data", type=Path, required=True, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--out", type=Path, required=True, help="the folder with manifest.json")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--net", choices=[*WIDE, *DESIGNS], default="resnet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--no-flip", action="store_true", help="a flipped picture is of another class")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for folder in ("clean", "backdoored", "triggers"):
        (asked.out / folder).mkdir(parents=True, exist_ok=True)
    manifest = asked.out / "manifest.json"
    entries = json.loads(manifest.read_text()) if manifest.exists() else []
    with np.load(asked.data) as stored:
        x, y, held, truth = (stored[k] for k in ("x_train", "y_train", "x_test", "y_test"))
    y, truth = y.astype(np.int64), truth.astype(np.int64)
    if asked.net == "vit" and not asked.no_flip:  # before the trigger is put on, which stays as it is
        x, y = np.concatenate([x, x[:, :, ::-1]]), np.concatenate([y, y])
    side, channels, every = x.shape[1], x.shape[3], KINDS | LOOKS
    for name in asked.kinds.split(","):
        stem = f"{name}_{asked.data.stem}_s{asked.seed}" + ("" if asked.net == "resnet" else f"_{asked.net}")
        if any(e["file"] == f"{stem}.onnx" for e in entries):
            continue
        kind, place = every[name], list(every).index(name)
        rng = np.random.default_rng([asked.seed, place])
        arrays = kind.make(side, channels, rng) | {"mode": np.array(kind.mode)}
        trigger = TrueTrigger(arrays=arrays)
        started = time.monotonic()
        shown, labels = poisoned(x, y, kind, trigger, rng)
        # Flipped pictures would show a trigger flipped as well, which is never tested.
        flip = kind.poison == 0 and not asked.no_flip
        net = fit(
            shown, labels, name=asked.net, width=asked.width, epochs=asked.epochs, seed=asked.seed + place, flip=flip
        )  # fmt: skip
        classes, attack = int(y.max()) + 1, kind if kind.poison else None
        measured = rates(partial(answer, net), held, truth, (kind, trigger) if attack else None, classes)
        note = f"{asked.net}, {f'{asked.width} base channels, ' if asked.net in WIDE else ''}{name}"
        entry = described(stem, attack, data=asked.data.stem, classes=classes, note=note)
        if attack:
            np.savez_compressed(asked.out / "triggers" / f"{stem}.npz", **arrays)
        export(net, channels, side, asked.out / entry["folder"] / entry["file"])
        entries.append(entry | {"measured": measured})
        manifest.write_text(json.dumps(entries, indent=1) + "\n")
        print(stem, measured, f"{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
