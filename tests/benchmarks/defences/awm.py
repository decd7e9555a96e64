"""AWM: Chai and Chen, "One-shot Neural Backdoor Erasing via Adversarial Weight Masking", NeurIPS 2022.

Masks in 0..1 of every single weight of the convolutions. In each of 20 rounds one perturbation for all pictures moves the
answers away from what they are (SGD of rate 10), and is cut to an L1 norm of 1000. The masks then learn (Adam of rate 0.01,
0.9 times as much after each round) to keep the clean loss (times 0.9), to withstand the perturbation (times 0.1), and to be
small (1e-8 times their sum). With a picture a class, as published for that: a norm of 100, and 0.99 against 0.01.

Filled in: five epochs a round of each kind, and at least 15 batches, which is what the authors' pictures make. With one
picture a class they add nine crops of each; here all are shifted by up to two pixels.
"""

import onnx
import torch
from torch.nn.functional import cross_entropy

from tests.benchmarks.defences.learner import BATCH, Learner
from tests.benchmarks.quality import Known

ROUNDS, EPOCHS, LEAST = 20, 5, 15
CLIMB, RATE, LATER, SMALL = 10.0, 0.01, 0.9, 1e-8
FEW, MANY = (100.0, 0.99), (1000.0, 0.9)  # norm, share of the clean loss


def repaired(net: Known) -> tuple[onnx.ModelProto, str]:
    learner = Learner(net)
    norm, clean = FEW if len(learner.x) <= learner.classes else MANY
    names = {n.input[1] for n in learner.source.graph.node if n.op_type == "Conv"} & learner.weights.keys()
    if not names:
        raise ValueError("no convolutions")
    masks = {n: torch.ones_like(learner.weights[n], requires_grad=True) for n in sorted(names)}
    optimiser = torch.optim.Adam(masks.values(), lr=RATE)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, LATER)
    steps = max(LEAST, EPOCHS * -(-len(learner.x) // BATCH))

    def masked() -> dict[str, torch.Tensor]:
        return {**learner.weights, **{n: learner.weights[n] * m for n, m in masks.items()}}

    for _ in range(ROUNDS):
        added = torch.zeros_like(learner.x[:1], requires_grad=True)
        with torch.no_grad():
            weights = masked()
        for x, _ in learner.steps(steps):
            x = learner.moved(x)
            with torch.no_grad():
                answers = learner.logits(x, weights).argmax(1)
            (slope,) = torch.autograd.grad(cross_entropy(learner.logits(x + added, weights), answers), added)
            added = (added + CLIMB * slope).detach().requires_grad_()
        added = (added * (norm / added.abs().sum().clamp(min=norm))).detach()
        for x, y in learner.steps(steps):
            x, weights = learner.moved(x), masked()
            loss = clean * learner.loss(x, y, weights) + (1 - clean) * learner.loss((x + added).clamp(0, 1), y, weights)
            optimiser.zero_grad()
            (loss + SMALL * sum(m.abs().sum() for m in masks.values())).backward()
            optimiser.step()
            with torch.no_grad():
                for m in masks.values():
                    m.clamp_(0, 1)
        schedule.step()
    with torch.no_grad():
        share = sum(float(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())
        return learner.written(masked()), f"masks of {share:.2f} on average"
