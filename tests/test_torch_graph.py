"""What benchmarks compute by torch is what onnxruntime computes, for every design that they train and some more."""

import io

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="torch is only needed by benchmarks")
from benchmarks.defences.unfolding import folded_ones, unfolded  # noqa: E402
from benchmarks.designs import DESIGNS  # noqa: E402
from benchmarks.poison import WIDE, network  # noqa: E402
from benchmarks.torch_graph import TorchGraph  # noqa: E402
from torch import nn  # noqa: E402

SIDE, CLASSES = 16, 5


class Inverted(nn.Module):
    """MobileNetV2's block: ReLU6 between a pointwise, a depthwise and a pointwise convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU6(),
            nn.Conv2d(4 * width, 4 * width, 3, 1, 1, groups=4 * width, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU6(),
            nn.Conv2d(4 * width, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x):
        return x + self.layers(x)


class Next(nn.Module):
    """ConvNeXt's block: LayerNorm over the channels, GELU, a scale of each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width, 1e-6)
        self.inside, self.outside = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x):
        y = self.norm(self.spread(x).permute(0, 2, 3, 1))
        y = self.scale * self.outside(nn.functional.gelu(self.inside(y)))
        return x + y.permute(0, 3, 1, 2)


class ClassToken(nn.Module):
    """A token of its own before those of the picture, torch's own encoder behind it, and only that token's answer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.randn(1, 1, width))
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, activation="gelu", batch_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.layer(torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1))[:, 0])


def pooled(block: nn.Module, width: int) -> nn.Sequential:
    stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width))
    return nn.Sequential(stem, block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


MORE = {"inverted": lambda: pooled(Inverted(8), 8), "next": lambda: pooled(Next(8), 8), "token": lambda: ClassToken(16)}


def exported(net: nn.Module) -> onnx.ModelProto:
    stream = io.BytesIO()
    torch.manual_seed(0)
    with torch.no_grad():
        for buffer in net.buffers():  # else a normalisation of an untrained network does nothing
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
    torch.onnx.export(
        net.eval(), (torch.zeros(2, 3, SIDE, SIDE),), stream, dynamo=False, opset_version=17, input_names=["input"],
        dynamic_axes={"input": {0: "batch"}},
    )  # fmt: skip
    return onnx.load_from_string(stream.getvalue())


def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (3, 3, SIDE, SIDE)).astype(np.float32)


def by_torch(model: onnx.ModelProto, *, of: tuple[str, ...] = (), follow: float | None = None):
    graph = TorchGraph(model, torch.device("cpu"))
    for given in graph.normalisations if follow is not None else ():
        given["follow"] = follow
    with torch.no_grad():
        return graph(torch.from_numpy(pictures()), {}, of=of)


@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize("design", [*WIDE, *DESIGNS, *MORE])
def test_torch_agrees_with_onnxruntime(design):
    model = exported(MORE[design]() if design in MORE else network(design, 3, SIDE, CLASSES, 4))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(by_torch(model), session.run(None, {"input": pictures()})[0], atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("follow", [None, 0.1])
def test_a_batchnorm_that_is_put_back_changes_nothing_until_it_learns(follow):
    model = exported(network("vgg", 3, SIDE, CLASSES, 4))
    there = folded_ones(model)
    made = by_torch(model, of=tuple(n.output[0] for n in there))
    statistics = [(v.mean((0, 2, 3)).numpy(), v.var((0, 2, 3), correction=0).numpy()) for v in made]
    again, names = unfolded(model, statistics)
    assert len(names) == len(there) == 5
    # In training a batch of the very pictures that gave the statistics has them too.
    np.testing.assert_allclose(by_torch(again, follow=follow), by_torch(model), atol=1e-3)
