"""Fine-tuning: all weights and biases by SGD on the pictures, momentum 0.9; pruned: behind the pruning of Fine-Pruning.

Filled in: 100 epochs, pictures shifted by up to two pixels. Nothing that a defender sees says which rate is right.
"""

import onnx
import torch

from tests.benchmarks.defences import dormant
from tests.benchmarks.defences.learner import Learner
from tests.benchmarks.quality import Known

EPOCHS, MOMENTUM = 100, 0.9


def repaired(net: Known, *, rate: float, pruned: bool = False) -> tuple[onnx.ModelProto, str]:
    model, said = dormant.repaired(net) if pruned else (None, f"{EPOCHS} epochs")
    learner = Learner(net, model)
    optimiser = torch.optim.SGD(learner.learn(), lr=rate, momentum=MOMENTUM)
    with learner.training():
        for x, y in (batch for _ in range(EPOCHS) for batch in learner.epoch()):
            optimiser.zero_grad()
            learner.loss(learner.moved(x), y).backward()
            optimiser.step()
    return learner.written(), said
