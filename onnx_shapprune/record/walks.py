"""Walks through the game of one model, as one process hands them to another."""

from onnx_shapprune.record.parts import Part


class WalksRecord(Part):
    """players: name of the layer, and channel; paths: for each walk, value and backdoor part of the coalition of all
    players, and of what is left after each step.
    """

    players: tuple[tuple[str, int], ...]
    paths: tuple[tuple[tuple[float, float], ...], ...]
