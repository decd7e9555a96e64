"""The largest logit margin that any input of the box reaches, per class: MM-BD's statistic, which needs no picture.

Wang, Xiang, Miller and Kesidis, "MM-BD: Post-Training Detection of Backdoor Attacks with Arbitrary Backdoor Pattern Types
Using a Maximum Margin Statistic", IEEE S&P 2024: a backdoor overfits its target class, whatever the trigger looks like, so
that its logit can be driven further above all others than that of a clean class.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.subject import Subject, margins


def peaks(
    subject: Subject,
    size: tuple[int, int, int],
    classes: Sequence[int],
    rng: np.random.Generator,
    *,
    starts: int = 5,
    steps: int = 30,
) -> NDArray[np.float64]:
    """Largest margin of each of `classes`, the median over random starts, float64 [classes]. size: (h, w, c) of a picture.

    The paper takes the largest of 30 starts; of few, one lucky start of a clean class would decide, while a backdoor is
    reached from nearly all. Signed steps that fall from 16 bytes to 1 take the place of the paper's 300 plain ones: the
    scale of the gradients differs between models by orders of magnitude.
    """
    targets = np.repeat(np.asarray(classes, np.int64), starts)
    x = rng.uniform(0, 255, (len(targets), *size)).astype(np.float32)
    best = np.full(len(targets), -np.inf)
    for step in range(steps + 1):
        logits, gradient = subject.gradient(x, targets)
        best = np.maximum(best, margins(logits, targets))
        stride = np.float32(16 - 15 * step / steps)
        x = np.clip(x - stride * np.sign(gradient), 0, 255).astype(np.float32)
    return np.asarray(np.median(best.reshape(-1, starts), axis=1), np.float64)
