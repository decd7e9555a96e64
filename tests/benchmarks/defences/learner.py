"""A network in torch before the few pictures: what the defences that learn have in common."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn.functional import cross_entropy

from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.runtime.session import Device, Session
from tests.benchmarks.defences.unfolding import EPSILON, Unfolded, folded_ones, unfolded
from tests.benchmarks.quality import Known
from tests.benchmarks.torch_graph import TorchGraph

Weights = Mapping[str, Tensor]
BATCH = 128
SHIFT = 2  # pixels by which pictures are moved in training
AVERAGED = 500  # pictures that say what a folded BatchNorm was
CHECKED = 32  # pictures on which torch has to agree with onnxruntime


class Learner:
    """x: float32 [n, ...] in 0..1, in the layout of the network; y: int64 [n]; weights: leaves by name, not yet learning.

    Every BatchNorm is there again: see unfolding. On a GPU where there is one. Draws come from one generator of seed 0.
    ValueError for a network of an operator that is not known, or whose answers torch computes otherwise.
    """

    def __init__(self, net: Known, model: onnx.ModelProto | None = None) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.allow_tf32 = False  # the answers have to be those of onnxruntime
        self.rng = np.random.default_rng(0)
        self.source = net.opened.file.loaded if model is None else model
        settings, pictures = net.opened.subject.preprocessing, net.shown.pictures
        self.shape, laid = settings.input_shape, replace(settings, input_shape=None)
        self.rows, self.across = ((2, 3), 1) if settings.layout == "NCHW" else ((1, 2), 3)
        black, white = (to_input(np.full_like(pictures[:1], v), laid) for v in (0, 255))
        self._gain, self._shift = (torch.from_numpy(v).to(self.device) for v in (white - black, black))
        self.x = (torch.from_numpy(to_input(pictures, laid)).to(self.device) - self._shift) / self._gain
        self.y = torch.from_numpy(net.shown.labels).to(self.device)
        self.classes = net.shown.logits.shape[1]
        graph, there = TorchGraph(self.source, self.device), folded_ones(self.source)
        with torch.no_grad():
            made = graph(self.inputs(self.x[:AVERAGED]), {}, of=[n.output[0] for n in there]) if there else []
        statistics = [(v.mean((0, 2, 3)).cpu().numpy(), v.var((0, 2, 3), correction=0).cpu().numpy()) for v in made]
        model, self.unfolded = unfolded(self.source, statistics)
        self.graph = TorchGraph(model, self.device)
        biases = {each.bias for each in self.unfolded}  # which its BatchNorm takes away again
        self.weights: Weights = {n: v.clone() for n, v in self.graph.weights.items() if n not in biases}
        self._check(net)

    def _check(self, net: Known) -> None:
        interface = net.opened.interface
        given = to_input(net.shown.pictures[:CHECKED], net.opened.subject.preprocessing)
        (scores,) = Session(self.source, Device(threads=1)).run({interface.input: given}, [interface.output])
        with torch.no_grad():
            mine = self.logits(self.x[:CHECKED], {}).cpu().numpy()
        if np.abs(mine - scores.reshape(mine.shape)).max() > 1e-3 * (1 + np.abs(scores).max()):
            raise ValueError("torch computes the network otherwise")

    def inputs(self, x: Tensor) -> Tensor:
        """What the network takes, of pictures in 0..1."""
        x = x * self._gain + self._shift
        return x if self.shape is None else x.reshape(len(x), *self.shape)

    def logits(self, x: Tensor, weights: Weights | None = None) -> Tensor:
        """Of pictures in 0..1, by the weights that are learnt, or by others."""
        found: Tensor = self.graph(self.inputs(x), self.weights if weights is None else weights)
        return found

    def loss(self, x: Tensor, y: Tensor, weights: Weights | None = None) -> Tensor:
        return cross_entropy(self.logits(x, weights), y)

    @torch.no_grad()
    def accuracy(self, weights: Weights | None = None) -> float:
        """On the few pictures, 0..1."""
        parts = [self.logits(x, weights).argmax(1) for x in self.x.split(BATCH)]
        return float((torch.cat(parts) == self.y).float().mean())

    def learn(self) -> list[Tensor]:
        """The weights, from now on with gradients."""
        return [v.requires_grad_() for v in self.weights.values()]

    @contextmanager
    def training(self, follow: float = 0.1) -> Iterator[None]:
        """BatchNorm by the statistics of a batch, as in training; follow: rate at which the running ones go there."""
        for given in self.graph.normalisations:
            given["follow"] = follow
        yield
        for given in self.graph.normalisations:
            del given["follow"]

    def epoch(self, size: int = BATCH, least: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """All pictures in batches, shuffled where there are several; again until there were `least` batches."""
        made = 0
        while made < least:
            order = torch.from_numpy(
                self.rng.permutation(len(self.x)) if len(self.x) > size else np.arange(len(self.x))
            )
            for rows in order.to(self.device).split(size):
                yield self.x[rows], self.y[rows]
                made += 1

    def steps(self, count: int, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """So many batches, over as many epochs as they take."""
        for _, batch in zip(range(count), self.epoch(size, least=count), strict=False):
            yield batch

    def moved(self, x: Tensor) -> Tensor:
        """Pictures shifted by up to SHIFT pixels, all alike."""
        return torch.roll(x, self.rng.integers(-SHIFT, SHIFT + 1, 2).tolist(), self.rows)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in -1..1."""
        return torch.from_numpy(self.rng.uniform(-1, 1, shape).astype(np.float32)).to(self.device)

    def written(self, weights: Weights | None = None) -> onnx.ModelProto:
        """The file with the weights that were learnt, or with others, and every BatchNorm folded as it was."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.source)
        values = {**self.graph.constants, **(self.weights if weights is None else weights)}
        for each in self.unfolded:
            self._fold(each, values)
        for tensor in copy.graph.initializer:
            value = values[tensor.name]
            if value.is_floating_point():
                learnt = np.ascontiguousarray(value.detach().cpu().numpy())
                tensor.CopyFrom(numpy_helper.from_array(learnt, tensor.name))
        return copy

    def _fold(self, each: Unfolded, values: dict[str, Tensor]) -> None:
        mean, variance, scale, shift = (values[n] for n in (each.mean, each.variance, each.scale, each.shift))
        gain = scale / (variance + EPSILON).sqrt()
        values[each.bias] = (values[each.bias] - mean) * gain + shift
        values[each.weight] = values[each.weight] * gain.reshape(-1, 1, 1, 1)
