"""NC: Wang et al., "Neural Cleanse", IEEE S&P 2019, with its repair by unlearning.

For every class a mask and a pattern are sought that send the pictures there (Adam of rate 0.1, betas 0.5 and 0.9), the mask
as small as it gets in L1: its weight, first 1e-3, doubles while 99 % go there, and is cut by 2^1.5 while they do not. Where
the smallest mask is below the median by more than two normalised median deviations, its class is a target. The network then
learns from the pictures with the triggers pasted on 20 % of them, and their right labels.

Filled in: 1,000 steps a class on up to 32 pictures, without the early end, many classes at once; the weight changes after
five times ten steps alike. A class that never gets 99 % counts as one whose mask is everything. Several targets take turns.
One epoch on a tenth of the training set is 100 steps here, SGD of rate 0.01, momentum 0.9, pictures shifted by up to two
pixels.
"""

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.benchmarks.defences.learner import Learner
from tests.benchmarks.quality import Known

STEPS, SHOWN, RATE, BETAS = 1000, 32, 0.1, (0.5, 0.9)
WEIGHT, UP, DOWN, PATIENCE, CHECK, REACHED = 1e-3, 2.0, 2.0**1.5, 5, 10, 0.99
OUTLIER = 2.0
PASTED, TUNING, TUNING_RATE, MOMENTUM = 0.2, 100, 0.01, 0.9
TOGETHER = 16  # classes, so that they fit in memory


def triggers(learner: Learner, goals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Masks [k, 1, h, w] and patterns [k, c, h, w] in the network's layout, in 0..1, for k classes, and the L1 norms [k] of
    the masks.
    """
    k, shape = len(goals), list(learner.x.shape[1:])
    narrow = [1 if i + 1 == learner.across else n for i, n in enumerate(shape)]
    raw = [learner.uniform(k, *narrow).requires_grad_(), learner.uniform(k, *shape).requires_grad_()]
    optimiser = torch.optim.Adam(raw, lr=RATE, betas=BETAS)
    weight = torch.full((k,), WEIGHT, device=learner.device)
    ups, downs = torch.zeros_like(weight), torch.zeros_like(weight)
    best = [torch.zeros_like(v) for v in raw]
    norms, reached, seen = torch.full_like(weight, best[0][0].numel()), torch.zeros_like(weight), 0
    for step, (x, _) in enumerate(learner.steps(STEPS, SHOWN), start=1):
        mask, pattern = (v.tanh() / 2 + 0.5 for v in raw)
        stamped = x * (1 - mask[:, None]) + (pattern * mask)[:, None]
        logits = learner.logits(stamped.flatten(0, 1)).reshape(k, len(x), -1)
        wanted = goals[:, None].expand(k, len(x))
        loss = cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").reshape(k, -1).mean(1)
        size = mask.flatten(1).sum(1)
        optimiser.zero_grad()
        (loss + weight * size).sum().backward()
        optimiser.step()
        with torch.no_grad():
            hits = (logits.argmax(2) == wanted).float().mean(1)
            better = (hits >= REACHED) & (size < norms)
            norms = torch.where(better, size, norms)
            for kept, now in zip(best, (mask, pattern), strict=True):
                kept[better] = now[better]
            reached, seen = reached + hits, seen + 1
            if step % CHECK:
                continue
            there = reached / seen >= REACHED
            reached, seen = torch.zeros_like(reached), 0
            ups, downs = torch.where(there, ups + 1, 0), torch.where(there, 0, downs + 1)
            weight = torch.where(ups >= PATIENCE, weight * UP, torch.where(downs >= PATIENCE, weight / DOWN, weight))
            ups, downs = ups % PATIENCE, downs % PATIENCE
    return best[0], best[1], norms


def repaired(net: Known) -> tuple[onnx.ModelProto, str]:
    learner = Learner(net)
    goals = torch.arange(learner.classes, device=learner.device)
    found = [triggers(learner, some) for some in goals.split(TOGETHER)]
    masks, patterns, norms = (torch.cat(parts) for parts in zip(*found, strict=True))
    small = norms.cpu().numpy()
    centre = np.median(small)
    spread = 1.4826 * np.median(np.abs(small - centre))
    targets = np.flatnonzero((small < centre) & (centre - small > OUTLIER * spread)).tolist()
    if not targets:
        return learner.source, "no outlier"
    optimiser = torch.optim.SGD(learner.learn(), lr=TUNING_RATE, momentum=MOMENTUM)
    with learner.training():
        for step, (x, y) in enumerate(learner.steps(TUNING)):
            target = targets[step % len(targets)]
            x = learner.moved(x)
            rows = learner.rng.choice(len(x), max(1, round(PASTED * len(x))), replace=False)
            x[rows] = x[rows] * (1 - masks[target]) + patterns[target] * masks[target]
            optimiser.zero_grad()
            learner.loss(x, y).backward()
            optimiser.step()
    return learner.written(), f"outliers: class {', '.join(map(str, targets))}"
