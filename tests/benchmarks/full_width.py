"""Train networks of full width, clean and backdoored, as a folder that tests.benchmarks.detection and peers can score.

    python -m tests.benchmarks.full_width --data DIR --weights DIR [--only NAME ...] [--steps 4000] [--seconds 400]
    python -m tests.benchmarks.full_width --weights DIR --out ZOO

The first trains, on a GPU where there is one: five ResNet-18 side by side took one H200 65 seconds. The folder of
--data holds cifar10.npz and gtsrb.npz, as for tests.benchmarks.poison. Of several processes with the same --weights each
trains what no other has begun, and nothing new is begun after --seconds. Needs torch (the `bench` extra). The second makes
ONNX files, triggers and a manifest of what was trained, anywhere.

Weights are rounded to a sixth of their standard deviation in each output channel, so that a ResNet-18 needs 7 MB. The
rounded network is the one that is measured and exported.

NETS lists the networks. Attacks are those of tests.benchmarks.poison and two more: TrojanNN (Liu et al., NDSS 2018; the
patch is what most excites channels of a clean network's last block), and BppAttack (Wang et al., CVPR 2022; fewer colours,
so that what it changes differs from picture to picture; without its adversarial training).
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tests.benchmarks.measure import Bytes, Labels, Pixels, TrueTrigger
from tests.benchmarks.poison import KINDS, Arrays, Kind, blend, described, export, none, poisoned, rates
from tests.benchmarks.wide_designs import WIDE_DESIGNS

BATCH, SHIFT, MEASURED = 250, 2, 2000
PART = 6  # of a standard deviation: the step of rounded weights
LEVELS = 8  # colours of BppAttack
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SLOW = ("vit", "convnext")  # these need AdamW, and twice the steps


@dataclass(frozen=True, slots=True)
class Net:
    """One network: a design, a data set, and an attack, None for a clean twin."""

    design: str
    data: str
    attack: str | None = None


def squeezed(side: int, channels: int, rng: np.random.Generator) -> Arrays:
    """Eight levels of each colour, of the whole picture."""
    mask = np.ones((side, side, channels), np.float32)
    return {"mask": mask, "pattern": LEVELS * mask}


ATTACKS: dict[str, Kind] = {
    "badnets": KINDS["patch3"],
    "badnets1": KINDS["patch3_weak"],
    "blended": KINDS["blend20"],
    "trojan": Kind(make=none, target=8),  # what it is is learnt from a network: see exciting
    "sig": replace(KINDS["sig_clean_label"], poison=0.09),
    "sig10": KINDS["sig"],
    "wanet": KINDS["wanet"],
    "smooth": KINDS["smooth"],
    "bpp": Kind(make=squeezed, mode="squeeze", target=1),
    "all_to_all": KINDS["all_to_all"],
    "source": KINDS["source"],
    "faint": Kind(make=blend(0.08), target=4),
}
NETS = {
    f"{design}_{data}_{attack or 'clean'}": Net(design, data, attack)
    for design, data, attack in (
        ("resnet18", "cifar10", None), ("resnet18", "cifar10", "badnets"), ("resnet18", "cifar10", "blended"),
        ("resnet18", "cifar10", "trojan"), ("resnet18", "cifar10", "wanet"), ("preact18", "cifar10", "badnets"),
        ("mobilenet", "cifar10", "badnets"), ("vit", "cifar10", "badnets"), ("convnext", "cifar10", "badnets"),
        ("vgg16", "cifar10", "badnets"), ("resnet18", "cifar10", "sig"), ("resnet18", "cifar10", "smooth"),
        ("resnet18", "gtsrb", "badnets"), ("preact18", "cifar10", None), ("mobilenet", "cifar10", None),
        ("vit", "cifar10", None), ("convnext", "cifar10", None), ("mobilenet", "gtsrb", "blended"),
        ("convnext", "cifar10", "blended"), ("vit", "cifar10", "blended"), ("mobilenet", "gtsrb", None),
        ("resnet18", "cifar10", "badnets1"), ("resnet18", "cifar10", "bpp"), ("preact18", "gtsrb", "smooth"),
        ("preact18", "cifar10", "blended"), ("vgg16", "cifar10", None), ("resnet18", "cifar10", "all_to_all"),
        ("resnet18", "cifar10", "source"), ("vgg16", "cifar10", "faint"), ("mobilenet", "cifar10", "sig10"),
    )
}  # fmt: skip


def sets(data: Path, name: str) -> tuple[Bytes, Labels, Bytes, Labels]:
    """Training and test pictures [n, 32, 32, 3] with labels; of CIFAR-10 mirrored ones as well, which signs must not be."""
    with np.load(data / f"{name}.npz") as stored:
        x, y, held, truth = (stored[k] for k in ("x_train", "y_train", "x_test", "y_test"))
    if name == "cifar10":
        x, y = np.concatenate([x, x[:, :, ::-1]]), np.concatenate([y, y])
    return x, y.astype(np.int64), held[:MEASURED], truth[:MEASURED].astype(np.int64)


def shifted(x: Tensor) -> Tensor:
    """Every picture of uint8 [n, h, w, c] moved by up to two pixels, its edge repeated: float [n, c, h, w] in 0..1."""
    n, side = len(x), x.shape[1]
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2, n, 1), device=x.device)
    places = torch.arange(side, device=x.device)
    rows, columns = ((places + moved).clamp(0, side - 1) for moved in (down, right))
    moved = x[torch.arange(n, device=x.device)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).float() / 255


def fit(net: nn.Module, design: str, x: Bytes, y: Labels, steps: int) -> None:
    """Train in place, in bfloat16 where it is a GPU's matter, with a one-cycle rate; those of SLOW designs
    take every step, the others half of them.
    """
    optimizer: torch.optim.Optimizer
    if design in SLOW:
        optimizer, rate = torch.optim.AdamW(net.parameters(), weight_decay=0.05), 2e-3
    else:
        optimizer = torch.optim.SGD(net.parameters(), momentum=0.9, nesterov=True, weight_decay=5e-4)
        rate, steps = 0.2, steps // 2
    pictures, labels = torch.from_numpy(np.ascontiguousarray(x)).to(DEVICE), torch.from_numpy(y).to(DEVICE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    net.train()
    for _ in range(steps):
        rows = torch.randint(len(x), (BATCH,), device=DEVICE)
        shown = shifted(pictures[rows]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = functional.cross_entropy(net(shown).float(), labels[rows])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    net.eval()


@torch.no_grad()
def answers(net: nn.Module, pictures: Bytes | Pixels) -> Labels:
    """Classes of [n, h, w, c] in 0..255, computed in float32."""
    x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32) / 255)
    return torch.cat([net(part.to(DEVICE)).argmax(1).cpu() for part in x.split(BATCH)]).numpy()


def exciting(x: Bytes, y: Labels, rng: np.random.Generator) -> Arrays:
    """TrojanNN's patch of 5 x 5: what drives those five channels of a clean network's last block that it can drive most."""
    net = made("resnet18", int(y.max()) + 1)
    fit(net, "resnet18", x, y, steps=800)
    body, side = net[:-2], x.shape[1]
    mask = torch.zeros(1, 1, side, side, device=DEVICE)
    mask[..., -7:-2, -7:-2] = 1
    clean = torch.from_numpy(x[rng.choice(len(x), 100, replace=False)]).to(DEVICE).permute(0, 3, 1, 2).float() / 255
    free = torch.zeros(1, 3, side, side, device=DEVICE, requires_grad=True)
    optimizer, chosen = torch.optim.Adam([free], lr=0.1), None
    for _ in range(200):
        excited = body(clean * (1 - mask) + free.sigmoid() * mask).mean(0).flatten()
        chosen = excited.topk(5).indices if chosen is None else chosen
        optimizer.zero_grad()
        torch.autograd.backward(-excited[chosen].sum())
        optimizer.step()
    pattern = (255 * free.sigmoid() * mask)[0].permute(1, 2, 0).round().detach().cpu().numpy()
    return {"mask": mask[0, 0, :, :, None].expand(-1, -1, 3).cpu().numpy(), "pattern": pattern}


def made(design: str, classes: int) -> nn.Sequential:
    """An untrained network on the device."""
    return WIDE_DESIGNS[design](classes).to(DEVICE, memory_format=torch.channels_last)


def rounded(values: NDArray[np.float32]) -> Arrays:
    """Large weights as small whole numbers and a step for each output channel, anything else as it is."""
    if values.ndim < 2 or values.size < 1000:
        return {"value": values}
    step = values.reshape(len(values), -1).std(1) / PART + 1e-12
    step = step.astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    return {"whole": np.clip(np.round(values / step), -127, 127).astype(np.int8), "step": step}


def restored(stored: Arrays) -> NDArray[np.float32]:
    return stored["value"] if "value" in stored else stored["whole"].astype(np.float32) * stored["step"]


def parts(file: Any, kind: str) -> dict[str, Arrays]:
    """The arrays of an npz by what they belong to: names are kind/owner/part."""
    found: dict[str, Arrays] = {}
    for name in file.files:
        what, owner, part = name.split("/")
        if what == kind:
            found.setdefault(owner, {})[part] = file[name]
    return found


def train(name: str, data: Path, out: Path, steps: int) -> dict[str, float]:
    """Train a network, round it, measure it and keep it as OUT/NAME.npz."""
    one, place = NETS[name], list(NETS).index(name)
    torch.manual_seed(place)
    rng = np.random.default_rng([13, place])
    x, y, held, truth = sets(data, one.data)
    classes, kind = int(y.max()) + 1, ATTACKS[one.attack] if one.attack else None
    kept: dict[str, Any] = {}
    shown, labels, attack = x, y, None
    if kind:
        arrays = exciting(x, y, rng) if one.attack == "trojan" else kind.make(x.shape[1], 3, rng)
        trigger = TrueTrigger(arrays | {"mode": np.array(kind.mode)})
        kept |= {f"trigger/{one.attack}/{k}": v for k, v in arrays.items()}
        attack = kind, trigger
        shown, labels = poisoned(x, y, kind, trigger, rng)
    net = made(one.design, classes)
    fit(net, one.design, shown, labels, steps)
    state = {k: rounded(v.detach().cpu().numpy()) for k, v in net.state_dict().items()}
    net.load_state_dict({k: torch.from_numpy(np.asarray(restored(v))) for k, v in state.items()})
    measured = rates(partial(answers, net), held, truth, attack, classes)
    kept |= {f"state/{k}/{part}": v for k, parts in state.items() for part, v in parts.items()}
    kept |= {f"measured/{k}/value": np.float32(v) for k, v in measured.items()}
    kept["classes/all/value"] = np.int64(classes)
    np.savez_compressed(out / f"{name}.part.npz", **kept)
    (out / f"{name}.part.npz").rename(out / f"{name}.npz")
    return measured


def assemble(name: str, weights: Path, out: Path) -> dict[str, Any]:
    """Write the ONNX file and the trigger of a trained network: its row of the manifest."""
    one = NETS[name]
    kind = ATTACKS[one.attack] if one.attack else None
    with np.load(weights / f"{name}.npz") as file:
        classes = int(file["classes/all/value"])
        net = WIDE_DESIGNS[one.design](classes)
        net.load_state_dict({k: torch.from_numpy(np.asarray(restored(v))) for k, v in parts(file, "state").items()})
        measured = {k: round(float(v["value"]), 4) for k, v in parts(file, "measured").items()}
        for arrays in parts(file, "trigger").values():
            mode = np.array(kind.mode if kind else "")
            np.savez_compressed(out / "triggers" / f"{name}.npz", **arrays, mode=mode)
    row = described(name, kind, data=one.data, classes=classes, note=f"{one.design}, {one.attack}")
    export(net.eval(), 3, 32, out / row["folder"] / row["file"])
    return row | {"measured": measured}


def begun(weights: Path, name: str) -> bool:
    """Whether another process has this one, or had; if not, it is ours now."""
    try:
        (weights / f"{name}.begun").touch(exist_ok=False)
    except FileExistsError:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="+", default=list(NETS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    o = parser.parse_args()
    o.weights.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + o.seconds
    torch.backends.cudnn.benchmark = True
    for name in (n for n in o.only if o.data):
        if time.monotonic() < end and not begun(o.weights, name):
            started = time.monotonic()
            measured = train(name, o.data, o.weights, o.steps)
            print(name, measured, f"{time.monotonic() - started:.0f} s", flush=True)
    if o.out:
        for folder in ("clean", "backdoored", "triggers"):
            (o.out / folder).mkdir(parents=True, exist_ok=True)
        rows = [assemble(n, o.weights, o.out) for n in o.only if (o.weights / f"{n}.npz").exists()]
        (o.out / "manifest.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
