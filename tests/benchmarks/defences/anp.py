"""ANP: Wu and Wang, "Adversarial Neuron Pruning Purifies Backdoored Deep Models", NeurIPS 2021.

Masks of filters are learnt on the pictures, half against a perturbation of every filter and bias that makes the loss worst:
eps 0.4, alpha 0.2, 2,000 batches of 128, SGD of rate 0.2, momentum 0.9, filters of a mask below 0.2 pruned.

Filled in: the perturbation starts anywhere in its range, takes one step of eps up the sign of its gradient, and is cut to
the range.
"""

import onnx
import torch

from tests.benchmarks.defences.learner import Learner
from tests.benchmarks.defences.neurons import Neurons
from tests.benchmarks.quality import Known

BUDGET, KEPT, STEPS, RATE, MOMENTUM, PRUNED = 0.4, 0.2, 2000, 0.2, 0.9, 0.2  # KEPT: alpha, the share of the clean loss


def repaired(net: Known) -> tuple[onnx.ModelProto, str]:
    learner = Learner(net)
    neurons = Neurons(learner)
    masks = torch.ones(neurons.count, device=learner.device, requires_grad=True)
    optimiser = torch.optim.SGD([masks], lr=RATE, momentum=MOMENTUM)
    with learner.training(follow=0.0):
        for x, y in learner.steps(STEPS):
            noise = (BUDGET * learner.uniform(2, neurons.count)).requires_grad_()
            harm = learner.loss(x, y, neurons.masked(learner.weights, masks.detach() + noise[0], noise[1]))
            (slope,) = torch.autograd.grad(harm, noise)
            noise = (noise + BUDGET * slope.sign()).clamp(-BUDGET, BUDGET).detach()
            worst = learner.loss(x, y, neurons.masked(learner.weights, masks + noise[0], noise[1]))
            optimiser.zero_grad()
            (KEPT * learner.loss(x, y, neurons.masked(learner.weights, masks)) + (1 - KEPT) * worst).backward()
            optimiser.step()
            with torch.no_grad():
                masks.clamp_(0, 1)
    stay = (masks >= PRUNED).float()
    off = neurons.count - int(stay.sum())
    return learner.written(neurons.masked(learner.weights, stay)), f"{off} of {neurons.count} filters off"
