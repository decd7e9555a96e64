"""Adam's direction (Kingma and Ba, ICLR 2015), for searches that keep its state themselves."""

import numpy as np
from numpy.typing import NDArray

Moments = tuple[NDArray[np.floating], NDArray[np.floating]]


def adam(
    gradient: NDArray[np.floating], moments: Moments, step: int, betas: tuple[float, float]
) -> tuple[Moments, NDArray[np.floating]]:
    """The running moments after this gradient, and the direction, of about unit size, to be taken times a step size.

    step: counted from 1, for the bias of the first steps. All arrays have the gradient's shape.
    """
    mean = betas[0] * moments[0] + (1 - betas[0]) * gradient
    square = betas[1] * moments[1] + (1 - betas[1]) * gradient**2
    direction = mean / (1 - betas[0] ** step) / (np.sqrt(square / (1 - betas[1] ** step)) + 1e-8)
    return (mean, square), direction
