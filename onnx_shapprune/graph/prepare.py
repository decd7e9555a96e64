"""The working copy that the audit computes on: same numbers as the file, but easy to differentiate and to batch.

It goes through the passes in order, each of which says what holds before and after it. Tensor names at which channels are
switched off stay, so that a unit found in the original file is found in the copy. The copy must reproduce the logits of
the original file in onnxruntime, or preparing fails. With SHAPPRUNE_DEBUG_PASSES set in the environment that is looked
at, and so are the conditions, after each pass, and the first that breaks is named.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from onnx_shapprune.errors import ModelError, ShapPruneError, VerifyError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.agreement import Floats, prove
from onnx_shapprune.graph.interface import WHOLE, Interface, one_bare_score, scores_fault
from onnx_shapprune.graph.passes.batch import BATCH
from onnx_shapprune.graph.passes.binary import BINARY
from onnx_shapprune.graph.passes.choices import CHOICES
from onnx_shapprune.graph.passes.contract import Pass, Work, broken
from onnx_shapprune.graph.passes.dialects import DIALECT
from onnx_shapprune.graph.passes.ends import END
from onnx_shapprune.graph.passes.fold import FOLD, NORMS
from onnx_shapprune.graph.passes.pairs import PAIRS
from onnx_shapprune.graph.passes.plain import CONSTANTS, IDENTITIES, INPUTS, NAMES, PRECISION
from onnx_shapprune.graph.passes.pools import POOL
from onnx_shapprune.graph.passes.upgrade import UPGRADE
from onnx_shapprune.graph.passes.whole import BYTES, SCORES
from onnx_shapprune.runtime.memory import give_back
from onnx_shapprune.runtime.probe import TensorInfo, probe
from onnx_shapprune.runtime.session import Device

DEBUG = "SHAPPRUNE_DEBUG_PASSES"
# The end comes off once before the upgrade, which spells an old Softmax as three nodes, and once when what stood behind
# it is folded. A choice may ask for a size behind a pool, and a pool may stand behind a choice.
PASSES = (
    NAMES,
    INPUTS,
    PRECISION,
    CONSTANTS,
    PAIRS,
    SCORES,
    BYTES,
    BINARY,
    END,
    UPGRADE,
    DIALECT,
    POOL,
    CHOICES,
    POOL,
    IDENTITIES,
    FOLD,
    END,
    NORMS,
    BATCH,
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The working copy and what is known about it.

    model: input float32 [N, *input_shape] (N = 1 always where `batch_free` is False), one output: logits [N, classes].
    infos: shape and dtype of every tensor. stripped: operators taken off behind the logits, the file's last first.
    difference: largest difference to the file's logits, in units of what tells its classes apart. renamed: tensors of the
    file that have another name here. step: as of Work. score: the tensor that is the
    logit of a file with one score, "" for all others.
    """

    model: onnx.ModelProto
    input: str
    input_shape: tuple[int, ...]
    logits: str
    classes: int
    batch_free: bool
    infos: dict[str, TensorInfo]
    stripped: tuple[str, ...]
    difference: float
    renamed: Mapping[str, str]
    score: str = ""
    step: tuple[float, float] = (1.0, 0.0)


def prepare(
    original: onnx.ModelProto,
    interface: Interface,
    shape: tuple[int, ...],
    device: Device,
    *,
    debug: bool | None = None,
) -> Prepared:
    """Build the working copy for pictures of `shape` (model layout, without the batch dimension).

    debug: examine every pass; None asks the environment. Raises ModelError when the graph cannot run or is no classifier,
    VerifyError when the copy differs from the file, or a pass breaks its word.
    """
    debug = bool(os.environ.get(DEBUG)) if debug is None else debug
    rng = np.random.default_rng(0)
    work = Work(edit.inlined(original), interface, shape, device)
    for step in PASSES:
        work = _examined(step, work, original, _drawn(interface, (2, *shape), rng)) if debug else step.function(work)
    small, large = (2, 3) if work.batch_free else (1, 1)
    feeds = [{work.input: _drawn(interface, (n, *shape), rng)} for n in (small, large)]
    infos = probe(work.model, feeds[0], feeds[1], device)
    end = infos[work.model.graph.output[0].name]
    if fault := scores_fault(interface.output, end.shape, str(end.dtype)):
        raise ModelError(fault)
    if _per_picture(end) < 2:
        raise ModelError(one_bare_score(interface.output))
    difference = prove(original, work, feeds[0][work.input])
    logits, classes = _two_dimensional(work.model.graph, infos)
    give_back()
    return Prepared(
        model=work.model,
        input=work.input,
        input_shape=shape,
        logits=logits,
        classes=classes,
        batch_free=work.batch_free,
        infos=infos,
        stripped=work.stripped,
        difference=difference,
        renamed=work.renamed,
        score=work.score,
        step=work.step,
    )


def _drawn(interface: Interface, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Pictures of noise as the copy takes them."""
    noise = rng.random(shape, np.float32)
    if interface.scaled:
        return noise
    low, high = WHOLE[interface.dtype]
    return np.asarray(np.rint(low + (high - low) * noise), np.float32)


def _examined(step: Pass, work: Work, original: onnx.ModelProto, pictures: Floats) -> Work:
    """What a pass makes, after a look at its conditions and at the scores. Raises VerifyError naming the pass."""
    if missing := broken(step.before, work.model):
        raise VerifyError(f"before pass {step.name!r} it does not hold that: {'; '.join(missing)}")
    done = step.function(work)
    if missing := broken(step.after, done.model):
        raise VerifyError(f"pass {step.name!r} does not keep its word: {'; '.join(missing)}")
    begun = (NAMES, INPUTS) if work.interface.scaled else PASSES[: PASSES.index(BYTES)]
    if step not in begun:  # the copy takes float32 pictures only behind the next one
        try:
            prove(original, done, pictures)
        except ShapPruneError as error:
            raise VerifyError(f"pass {step.name!r} changes the scores: {error}") from error
    return done


def _per_picture(scores: TensorInfo) -> int:
    """How many scores a picture has; a file without a batch dimension may answer with a vector."""
    sizes = scores.shape if len(scores.shape) == 1 else scores.shape[1:]
    return int(np.prod([d or 0 for d in sizes]))


def _two_dimensional(graph: onnx.GraphProto, infos: dict[str, TensorInfo]) -> tuple[str, int]:
    """(logits, classes), the logits as [N, classes]: ends of the form [N, C, 1, 1] get a Flatten."""
    logits = graph.output[0].name
    shape, dtype = infos[logits].shape, infos[logits].dtype
    classes = _per_picture(infos[logits])
    if len(shape) != 2:
        flat = f"{logits}__flat"
        graph.node.append(helper.make_node("Flatten", [logits], [flat], axis=min(1, len(shape) - 1)))
        edit.set_output(graph, flat)
        infos[flat] = TensorInfo((shape[0] if len(shape) > 1 else 1, classes), dtype)
        logits = flat
    return logits, classes
