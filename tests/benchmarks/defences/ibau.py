"""I-BAU: Zeng et al., "Adversarial Unlearning of Backdoors via Implicit Hypergradient", ICLR 2022.

Five rounds. In each, one perturbation for all pictures makes the loss worst (SGD of rate 10, cut to an L2 norm of 10, for
pictures in 0..1), and Adam of rate 1e-3 makes it small again, by a gradient that knows how the perturbation would follow:
five steps of the fixed point of its update, rate 0.1, with a penalty of 0.001 times the squared norm. As its authors run it,
the weights learn from batches of which one picture in a hundred, and at least one, is perturbed, and normalisations keep
their statistics.

Filled in: as many steps of each kind a round as there are batches of 100, at least ten: with few pictures one would be all.
"""

import onnx
import torch
from torch import Tensor

from tests.benchmarks.defences.learner import Learner
from tests.benchmarks.quality import Known

ROUNDS, BATCH, STEPS, SHARE = 5, 100, 10, 100
CLIMB, NORM, PENALTY = 10.0, 10.0, 1e-3
FIXED_POINT, INNER, RATE = 5, 0.1, 1e-3


def cut(x: Tensor) -> Tensor:
    return x * (NORM / x.norm().clamp(min=NORM))


def repaired(net: Known) -> tuple[onnx.ModelProto, str]:
    learner = Learner(net)
    leaves = learner.learn()
    optimiser = torch.optim.Adam(leaves, lr=RATE)
    for _ in range(ROUNDS):
        added = torch.zeros_like(learner.x[:1], requires_grad=True)
        for x, y in learner.epoch(BATCH, STEPS):
            (slope,) = torch.autograd.grad(learner.loss(x + added, y) - PENALTY * added.square().sum(), added)
            added = (added + CLIMB * slope).detach().requires_grad_()
        for x, y in learner.epoch(BATCH, STEPS):
            for leaf, slope in zip(leaves, hypergradient(learner, x, y, added), strict=True):
                leaf.grad = slope
            optimiser.step()
    return learner.written(), f"{ROUNDS} rounds of {max(STEPS, -(-len(learner.x) // BATCH))} steps"


def hypergradient(learner: Learner, x: Tensor, y: Tensor, added: Tensor) -> list[Tensor]:
    """Gradient of the loss under the perturbation by each weight, that through the perturbation itself included."""
    leaves = list(learner.weights.values())

    def slopes(value: Tensor, along: Tensor | None = None) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            value, [added, *leaves], along, retain_graph=True, allow_unused=True, materialize_grads=True
        )

    (slope,) = torch.autograd.grad(
        learner.loss(x + added, y) - PENALTY * added.square().sum(), added, create_graph=True
    )
    followed = added + INNER * slope  # the perturbation's own update, whose fixed point it is
    rows = torch.zeros_like(x[:, :1, :1, :1])
    rows[learner.rng.choice(len(x), max(1, len(x) // SHARE), replace=False)] = 1
    by_added, *by_weights = slopes(learner.loss(x + rows * cut(added), y))
    along = by_added
    for _ in range(FIXED_POINT):
        along = slopes(followed, along)[0] + by_added
    return [a + b for a, b in zip(by_weights, slopes(followed, along)[1:], strict=True)]
