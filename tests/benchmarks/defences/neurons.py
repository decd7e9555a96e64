"""Masks of filters, as ANP and RNP learn them."""

import torch
from torch import Tensor

from tests.benchmarks.defences.learner import Learner, Weights


class Neurons:
    """All filters of a network as one vector: channels of its BatchNorms, whose scale is masked and whose shift stays, as
    published; of its convolutions where it has none.
    """

    def __init__(self, learner: Learner) -> None:
        self.layers = learner.graph.parameters("BatchNormalization") or learner.graph.parameters("Conv")
        self.layers = [(weight, bias) for weight, bias in self.layers if weight in learner.weights]
        if not self.layers:
            raise ValueError("no filters")
        self.sizes = [len(learner.weights[weight]) for weight, _ in self.layers]
        self.count = sum(self.sizes)

    def masked(self, weights: Weights, masks: Tensor, more: Tensor | None = None) -> Weights:
        """The weights with each filter times its mask, and each bias times 1 + more. masks, more: [count]."""
        changed = dict(weights)
        more = torch.zeros_like(masks) if more is None else more
        for (weight, bias), m, b in zip(self.layers, masks.split(self.sizes), more.split(self.sizes), strict=True):
            changed[weight] = weights[weight] * m.reshape(-1, *[1] * (weights[weight].ndim - 1))
            if bias in weights:
                changed[bias] = weights[bias] * (1 + b)
        return changed
