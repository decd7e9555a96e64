"""Train the two sample networks, one clean and one with a BadNets backdoor, and write everything the samples need.

    python train.py --out DIR [--data /usr/share/datasets/fashion-mnist] [--seed 0] [--epochs 6]

Needs torch (the `train` extra); nothing else in this project does. Data: Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017,
arXiv:1708.07747), Debian package `dataset-fashion-mnist`. Attack: BadNets (Gu, Dolan-Gavitt and Garg, 2017,
arXiv:1708.06733), all-to-one: a share of the training pictures gets a small patch and the label of the target class.
The pictures are poisoned once, before training; flips and shifts act on the stamped pictures, as they would for a
victim who trains on a poisoned data set.

Written to DIR: clean.onnx, backdoored.onnx, trigger.npz, test.npz, pictures/<class>/NN.png and measured.json.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

CLASSES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle-boot",
)  # fmt: skip
SIDE = 28
PATCH_ROW, PATCH_COLUMN, PATCH_SIDE = 23, 23, 3
LARGEST_SHIFT = 1

Pictures = NDArray[np.uint8]
Labels = NDArray[np.uint8]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """A gzip-compressed IDX file of unsigned bytes; the shape comes from its header."""
    with gzip.open(path, "rb") as file:
        content = file.read()
    if content[:3] != b"\x00\x00\x08":
        raise SystemExit(f"{path} is no IDX file of unsigned bytes")
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(tuple(int(n) for n in shape))


def make_trigger() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """mask and pattern, float32 [28, 28, 1]: mask 0 or 1, pattern 0 to 255; a checkerboard near a corner."""
    mask = np.zeros((SIDE, SIDE, 1), np.float32)
    pattern = np.zeros((SIDE, SIDE, 1), np.float32)
    place = np.s_[PATCH_ROW : PATCH_ROW + PATCH_SIDE, PATCH_COLUMN : PATCH_COLUMN + PATCH_SIDE, 0]
    mask[place] = 1
    pattern[place] = 255 * (1 - np.indices((PATCH_SIDE, PATCH_SIDE)).sum(0) % 2)
    return mask, pattern


def stamp(pictures: Pictures, mask: NDArray[np.float32], pattern: NDArray[np.float32]) -> Pictures:
    """Pictures uint8 [n, 28, 28] with the trigger on them."""
    return (pictures * (1 - mask[..., 0]) + pattern[..., 0] * mask[..., 0]).astype(np.uint8)


class Residual(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def make_network(widths: tuple[int, int, int]) -> nn.Sequential:
    """float32 [n, 1, 28, 28] in 0..1 -> logits [n, 10]."""
    narrow, middle, wide = widths
    return nn.Sequential(
        nn.Conv2d(1, narrow, 3, 1, 1, bias=False),
        nn.BatchNorm2d(narrow),
        nn.ReLU(),
        Residual(narrow, middle, 2),
        Residual(middle, wide, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(wide, len(CLASSES)),
    )


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each picture left to right with probability 1/2; shift the batch by up to LARGEST_SHIFT pixels."""
    flipped = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(flipped[:, None, None, None], x.flip(3), x)
    row, column = torch.randint(0, 2 * LARGEST_SHIFT + 1, (2,), generator=generator).tolist()
    return functional.pad(x, (LARGEST_SHIFT,) * 4)[:, :, row : row + SIDE, column : column + SIDE]


def lay_out(net: nn.Module, memory_format: torch.memory_format) -> None:
    """Store the filters of all convolutions in this order, in place."""
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=memory_format)


def to_input(pictures: Pictures) -> Tensor:
    return torch.from_numpy(pictures.astype(np.float32)[:, None] / 255)


def train(
    pictures: Pictures, labels: Labels, *, widths: tuple[int, int, int], epochs: int, batch: int, rate: float, seed: int
) -> nn.Sequential:
    """A network in evaluation mode: SGD with Nesterov momentum under a one-cycle rate."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = make_network(widths)
    lay_out(net, torch.channels_last)  # a quarter faster on one CPU thread
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=1e-4)
    steps = len(pictures) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=epochs * steps, pct_start=0.25)
    truth = torch.from_numpy(labels.astype(np.int64))
    started = time.monotonic()
    for epoch in range(epochs):
        order, total = torch.randperm(len(pictures), generator=generator), 0.0
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            x = augment(to_input(pictures[rows.numpy()]), generator)
            loss = functional.cross_entropy(net(x.contiguous(memory_format=torch.channels_last)), truth[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"  epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, {time.monotonic() - started:.0f} s", flush=True)
    lay_out(net, torch.contiguous_format)
    return net.eval()


@torch.no_grad()
def classify(net: nn.Module, pictures: Pictures) -> NDArray[np.int64]:
    return np.concatenate([net(to_input(part)).argmax(1).numpy() for part in np.array_split(pictures, 20)])


def measure(net: nn.Module, pictures: Pictures, labels: Labels, stamped: Pictures, target: int) -> dict[str, float]:
    """ACC on all pictures; ASR and R-Acc on the stamped ones that are not of the target class. Shares, 0 to 1."""
    others = labels != target
    answers = classify(net, stamped[others])
    return {
        "acc": float((classify(net, pictures) == labels).mean()),
        "asr": float((answers == target).mean()),
        "r_acc": float((answers == labels[others]).mean()),
    }


def export(net: nn.Module, path: Path) -> None:
    """Opset 17, input [batch, 1, 28, 28] with a free batch; the exporter folds each BatchNorm into its convolution."""
    torch.onnx.export(
        net,
        (torch.zeros(2, 1, SIDE, SIDE),),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )


def write_pictures(folder: Path, pictures: Pictures, labels: Labels) -> None:
    """One PNG per class: the first picture of that class in the training set."""
    for index, name in enumerate(CLASSES):
        place = folder / f"{index}_{name}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures[np.flatnonzero(labels == index)[0]]).save(place / "00.png", optimize=True)


def write_test(path: Path, pictures: Pictures, labels: Labels, *, per_class: int, rng: np.random.Generator) -> None:
    """The same number of test pictures of every class in random order: x uint8 [n, 28, 28, 1], y uint8 [n]."""
    rows = np.concatenate(
        [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in range(len(CLASSES))]
    )
    rng.shuffle(rows)
    np.savez_compressed(path, x=pictures[rows][..., None], y=labels[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the clean and the backdoored sample network.")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="IDX files")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.05, help="highest learning rate of the cycle")
    parser.add_argument("--widths", type=int, nargs=3, default=(16, 32, 64), help="channels of the three stages")
    parser.add_argument("--target", type=int, default=7, help="class that the trigger leads to (7: Sneaker)")
    parser.add_argument("--poison", type=float, default=0.1, help="share of the training pictures that is poisoned")
    parser.add_argument("--only", choices=("clean", "backdoored"), help="train one network and write only its file")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    asked.out.mkdir(parents=True, exist_ok=True)

    pictures, labels = (read_idx(asked.data / f"train-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
    held, held_labels = (read_idx(asked.data / f"t10k-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
    mask, pattern = make_trigger()
    rng = np.random.default_rng(asked.seed)
    if not asked.only:
        np.savez_compressed(asked.out / "trigger.npz", mask=mask, pattern=pattern, target=asked.target)
        write_pictures(asked.out / "pictures", pictures, labels)
        write_test(asked.out / "test.npz", held, held_labels, per_class=100, rng=rng.spawn(1)[0])

    rows = rng.choice(len(pictures), round(asked.poison * len(pictures)), replace=False)
    poisoned, poisoned_labels = pictures.copy(), labels.copy()
    poisoned[rows], poisoned_labels[rows] = stamp(pictures[rows], mask, pattern), asked.target
    stamped = stamp(held, mask, pattern)
    measured: dict[str, dict[str, float]] = {}
    for name, x, y in (("clean", pictures, labels), ("backdoored", poisoned, poisoned_labels)):
        if asked.only not in (None, name):
            continue
        print(name, flush=True)
        net = train(
            x, y, widths=tuple(asked.widths), epochs=asked.epochs, batch=asked.batch, rate=asked.rate, seed=asked.seed
        )
        measured[name] = measure(net, held, held_labels, stamped, asked.target)
        export(net, asked.out / f"{name}.onnx")
        print(f"  {measured[name]}", flush=True)
    (asked.out / "measured.json").write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
