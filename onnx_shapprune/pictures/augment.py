"""More views of a few pictures: shifted, brighter or darker, slightly noisy, and mirrored where that is asked for."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

Pixels = NDArray[np.float32]


def augmented(pictures: Pixels, copies: int, rng: np.random.Generator, *, mirror: bool = False) -> Pixels:
    """The pictures [n, h, w, c] in 0..255 followed by `copies` changed versions of each: [(copies + 1) * n, h, w, c].

    Shifts are up to a sixteenth of the picture (edges repeated), brightness is scaled by 0.85 to 1.15, noise has a
    standard deviation of 3 bytes.
    """
    reach = max(1, min(pictures.shape[1:3]) // 16)
    views = [pictures]
    for _ in range(copies):
        down, right = rng.integers(-reach, reach + 1, (2, len(pictures)))
        moved = np.stack([_shifted(p, d, r) for p, d, r in zip(pictures, down, right, strict=True)])
        if mirror:
            moved = np.where(rng.random((len(moved), 1, 1, 1)) < 0.5, moved[:, :, ::-1], moved)
        light = rng.uniform(0.85, 1.15, (len(moved), 1, 1, 1))
        views.append(np.clip(moved * light + rng.normal(0, 3, moved.shape), 0, 255).astype(np.float32))
    return np.concatenate(views)


def _shifted(picture: Pixels, down: int, right: int) -> Pixels:
    reach = max(abs(down), abs(right), 1)
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    height, width = picture.shape[:2]
    return padded[reach - down : reach - down + height, reach - right : reach - right + width]


def posed(pictures: Pixels, views: int, rng: np.random.Generator) -> Pixels:
    """`views` posed versions of each picture [n, h, w, c]: [views * n, h, w, c], the pictures in turn.

    Turned by up to 15 degrees, scaled by up to a fifth, shifted by up to a fifth of the picture; edges are repeated.
    """
    height, width = pictures.shape[1:3]
    centre = np.array([height - 1, width - 1]) / 2
    made = []
    for picture in np.tile(pictures, (views, 1, 1, 1)):
        angle, scale = np.deg2rad(rng.uniform(-15, 15)), np.exp(rng.uniform(-0.2, 0.2))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
        offset = centre - turn @ (centre + rng.uniform(-0.2, 0.2, 2) * (height, width))
        made.append(
            np.stack(
                [affine_transform(c, turn, offset, order=1, mode="nearest") for c in np.moveaxis(picture, 2, 0)], -1
            )
        )
    return np.asarray(made, np.float32).reshape(-1, *pictures.shape[1:])


def pasted(pictures: Pixels, count: int, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.int64]]:
    """`count` of the pictures [n, h, w, c], each with a piece of another at the same place: [count, h, w, c]; and which two
    they are, [count, 2].

    A piece is a quarter to three quarters as high and as wide as the picture (CutMix, Yun et al., ICCV 2019).
    """
    height, width = pictures.shape[1:3]
    base, other = rng.integers(0, len(pictures), (2, count))
    made: Pixels = pictures[base]
    for i in range(count):
        tall, broad = (int(rng.integers(max(1, d // 4), max(2, 3 * d // 4))) for d in (height, width))
        top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - broad + 1))
        piece = (slice(top, top + tall), slice(left, left + broad))
        made[i][piece] = pictures[other[i]][piece]
    return made, np.stack([base, other], axis=1)
