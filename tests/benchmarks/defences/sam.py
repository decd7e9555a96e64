"""FT-SAM: Zhu et al., "Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware Minimization", ICCV 2023.

Fine-tuning whose gradient is taken where the weights are worst within an adaptive ellipse, in which large weights move
farther: rho 2, SGD of rate 0.01, momentum 0.9, 100 epochs. Filled in: no weight decay, pictures shifted by up to two pixels.
"""

import onnx
import torch

from tests.benchmarks.defences.learner import Learner
from tests.benchmarks.quality import Known

RADIUS, RATE, MOMENTUM, EPOCHS = 2.0, 0.01, 0.9, 100


def repaired(net: Known) -> tuple[onnx.ModelProto, str]:
    learner = Learner(net)
    leaves = learner.learn()
    optimiser = torch.optim.SGD(leaves, lr=RATE, momentum=MOMENTUM)
    for x, y in (batch for _ in range(EPOCHS) for batch in learner.epoch()):
        x = learner.moved(x)
        with learner.training():
            slopes = torch.autograd.grad(learner.loss(x, y), leaves, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            size = torch.stack([(w.abs() * g).norm() for w, g in zip(leaves, slopes, strict=True)]).norm()
            away = [RADIUS * w**2 * g / (size + 1e-12) for w, g in zip(leaves, slopes, strict=True)]
        worst = {n: w + e for (n, w), e in zip(learner.weights.items(), away, strict=True)}
        optimiser.zero_grad()
        with learner.training(follow=0.0):
            learner.loss(x, y, worst).backward()  # of w + e, whose gradient by w is the one that is wanted
        optimiser.step()
    return learner.written(), f"{EPOCHS} epochs"
