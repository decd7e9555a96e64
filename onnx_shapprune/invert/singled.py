"""Triggers of pixels that the graph singles out: each is shown every grey, and those that say more than others are one.

What bends single pixels does so value by value, before any layer. So one flat picture of each grey asks all pixels at once,
channel by channel, where a search would have to find each of them by slopes that are not there.
"""

from collections.abc import Iterator

import numpy as np

from onnx_shapprune.case.said import read
from onnx_shapprune.case.subject import Pixels, Subject
from onnx_shapprune.errors import ModelError
from onnx_shapprune.invert.thresholds import COVERED, USUAL
from onnx_shapprune.pictures.preprocess import pull_back, to_input


def proposals_of_greys(subject: Subject, name: str, pictures: Pixels) -> Iterator[tuple[Pixels, Pixels]]:
    """(mask [h, w, 1], paint [h, w, c] in bytes) of pixels that make a tensor, of the picture's size, be what clean pictures
    make of no pixel. pictures: float32 [n, h, w, c] in 0..255.
    """
    flat = [np.full_like(pictures[:1], grey) for grey in range(256)]
    try:
        clean, driven = (
            np.concatenate([v[name] for v in read(subject, [name], [to_input(x, subject.preprocessing) for x in xs])])
            for xs in (pictures[:, None], flat)
        )
    except (ModelError, ValueError):
        return
    if driven.shape != (256, *subject.prepared.input_shape):
        return  # pixels stand elsewhere
    shape = (pictures.shape[1], pictures.shape[2], pictures.shape[3])
    said, usual = (pull_back(v, subject.preprocessing, picture_shape=shape) for v in (driven, clean))
    beyond = np.abs(said - np.median(said, axis=(1, 2), keepdims=True))  # of what the same grey says in other places
    paint = beyond.argmax(axis=0).astype(np.float32)
    mask = (beyond.max(axis=0) > np.ptp(np.quantile(usual, USUAL))).any(axis=2, keepdims=True)
    if 0 < mask.mean() <= COVERED:
        yield mask.astype(np.float32), paint
