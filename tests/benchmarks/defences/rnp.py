"""RNP: Li et al., "Reconstructive Neuron Pruning for Backdoor Defense", ICML 2023.

All weights unlearn the pictures by ascent (SGD of rate 0.01, a tenth of it after ten epochs, momentum 0.9, decay 5e-4) until
at most 10 % are right, or for 20 epochs. Masks of filters then recover them (rate 0.2, of 0.2 times the loss, 20 epochs).
Filters whose masks fell are pruned from the network that there was.

Filled in: an epoch is at least four batches, as with the 500 pictures of the paper, and what is right is counted of each
batch: with few pictures an epoch is too far. Gradients are cut to length 20. The dynamic threshold: the last of 0, 0.05, ...
0.9 up to which 95 % of the accuracy on the pictures stays, and no filter is pruned where none does.
"""

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.benchmarks.defences.learner import Learner
from tests.benchmarks.defences.neurons import Neurons
from tests.benchmarks.quality import Known

UNLEARNT, EPOCHS, BATCHES, MOMENTUM = 0.1, 20, 4, 0.9
ASCENT, LATER, DECAY, LONGEST = 0.01, 10, 5e-4, 20.0
RECOVERY, ALPHA = 0.2, 0.2
THRESHOLDS, STAYS = np.arange(0, 0.91, 0.05), 0.95


def unlearn(learner: Learner) -> float:
    """Have the weights get the pictures wrong; the share that they still get right."""
    leaves = learner.learn()
    optimiser = torch.optim.SGD(leaves, lr=ASCENT, momentum=MOMENTUM, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [LATER])
    right = 1.0
    for _ in range(EPOCHS):
        with learner.training():
            for x, y in learner.epoch(least=BATCHES):
                logits = learner.logits(x)
                if (right := float((logits.argmax(1) == y).float().mean())) <= UNLEARNT:
                    return right
                optimiser.zero_grad()
                (-cross_entropy(logits, y)).backward()
                torch.nn.utils.clip_grad_norm_(leaves, LONGEST)
                optimiser.step()
        schedule.step()
    return right


def recover(learner: Learner, neurons: Neurons) -> Tensor:
    """Masks with which the weights get the pictures right again."""
    weights = {n: v.detach() for n, v in learner.weights.items()}
    masks = torch.ones(neurons.count, device=learner.device, requires_grad=True)
    optimiser = torch.optim.SGD([masks], lr=RECOVERY, momentum=MOMENTUM)
    with learner.training():
        for x, y in (batch for _ in range(EPOCHS) for batch in learner.epoch(least=BATCHES)):
            optimiser.zero_grad()
            (ALPHA * learner.loss(x, y, neurons.masked(weights, masks))).backward()
            optimiser.step()
            with torch.no_grad():
                masks.clamp_(0, 1)
    return masks.detach()


def repaired(net: Known) -> tuple[onnx.ModelProto, str]:
    forgetful, learner = Learner(net), Learner(net)
    neurons = Neurons(learner)
    right = unlearn(forgetful)
    masks = recover(forgetful, neurons)
    first, pruned, off = learner.accuracy(), learner.weights, 0
    for threshold in THRESHOLDS:
        stay = (masks > float(threshold)).float()
        tried = neurons.masked(learner.weights, stay)
        if learner.accuracy(tried) < STAYS * first - 1e-6:
            break
        pruned, off = tried, neurons.count - int(stay.sum())
    return learner.written(pruned), f"{off} of {neurons.count} filters off, {right:.0%} right when unlearnt"
