"""A trigger that the user knows, instead of one that is searched."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Case
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.known_trigger import load_trigger


def known_trigger_of(case: Case, paths: Sequence[Path]) -> Trigger:
    """The user's trigger; its target is the class to which it moves most of the pictures whose answer it changes."""
    shown = case.shown
    height, width, channels = shown.size
    mask, paint, flow = load_trigger(*paths, size=(height, width), channels=channels)
    trigger = Trigger(mask, paint, Goal(0), "known", flow)
    answers = shown.subject.logits(trigger.apply(shown.pictures)).argmax(1)
    moved = answers[answers != shown.answers]
    target = int(np.bincount(moved if len(moved) else answers).argmax())
    return replace(trigger, goal=Goal(target))
