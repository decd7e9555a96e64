"""The objective of a targeted attack and its gradient, appended to a classifier.

The two gradients at the logits are written out here; everything below them is the engine's work. Cross entropy goes
through LogSoftmax of the logits: through a Softmax output it would be infinite where a probability underflows.
"""

from collections.abc import Mapping, Sequence

import onnx

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.engine import gradients
from onnx_shapprune.errors import ModelError
from onnx_shapprune.runtime.probe import TensorInfo

GRAD = "grad::"
LOSS = "attack::loss"  # some exporters name the last layer "loss"
NEGATIVE = -1e30  # pushes the target's logit below every other without making an infinity


def attack_gradient(
    model: onnx.ModelProto,
    infos: Mapping[str, TensorInfo],
    *,
    input_name: str,
    logits_name: str,
    wrt: Sequence[str],
    weights: onnx.ModelProto | None = None,
) -> onnx.ModelProto:
    """A model that computes an attack loss and its gradients.

    loss[n] = w_ce[n] * CE(z_n, t_n) + w_margin[n] * max(0, margin_cap - (z_t - max of the other z)), after Carlini and
    Wagner 2017; outputs: the logits, LOSS (N,), and "grad::<name>" of sum(loss) for each of `wrt`.
    New inputs, all in the logits' dtype: "target" (N, C) one-hot, "w_ce" (N,), "w_margin" (N,), "margin_cap" ().
    input_name: the picture input, which must be in the graph. weights: a model with the initializers that `model` only
    stands in for; a session of the result needs it too. Raises UnsupportedOpError naming every operator without a
    rule, ModelError when the logits are not (N, C) or a name is taken.
    """
    if input_name not in {v.name for v in model.graph.input}:
        raise ModelError(f"the graph has no input named {input_name}")
    b = Builder(model, infos, weights)
    shape = b.shape(logits_name)
    reserved = {"target", "w_ce", "w_margin", "margin_cap", LOSS, *(GRAD + name for name in wrt)}
    if clash := reserved.intersection({logits_name, *wrt}):
        raise ModelError(f"tensor {min(clash)} has the name of an input or output to be added; rename it")
    if len(shape) != 2 or shape[1] is None or shape[1] < 2:
        raise ModelError(f"logits {logits_name} have shape {shape}, expected (N, C) with at least two classes")
    del b.graph.output[:]
    b.reserve(*sorted(reserved))
    b.output(logits_name, shape)
    dtype = b.dtype(logits_name)
    target = b.input("target", dtype, ["target_n", shape[1]])
    w_ce = b.input("w_ce", dtype, ["w_ce_n"])
    w_margin = b.input("w_margin", dtype, ["w_margin_n"])
    cap = b.input("margin_cap", dtype, [])
    loss, seed = _attack(b, logits_name, target, w_ce, w_margin, cap)
    b.alias(loss, LOSS)
    b.output(LOSS, (shape[0],))
    made = gradients(b, logits_name, wrt, seed=seed)
    for name in wrt:
        b.alias(made[name], GRAD + name)
        b.output(GRAD + name, b.shape(name))
    return b.model()


def _attack(b: Builder, z: str, target: str, w_ce: str, w_margin: str, cap: str) -> tuple[str, str]:
    """(loss (N,), its gradient at the logits (N, C))."""
    row = b.ints(1)
    log_p = b("LogSoftmax", z, axis=1)
    ce = b("Neg", b("ReduceSum", b("Mul", target, log_p), row, keepdims=0))
    d_ce = b("Sub", b("Mul", b("Exp", log_p), b("ReduceSum", target, row, keepdims=1)), target)

    is_target = b("Greater", target, 0.5)
    others = b("Where", is_target, b.scalar(NEGATIVE, z), z)
    best = b("ReduceMax", others, row, keepdims=1)
    chosen = b("ReduceSum", b("Mul", target, z), row, keepdims=1)
    gap = b("Sub", cap, b("Sub", chosen, best))
    hinge = b("Relu", gap)
    rivals = b.mask(b("Equal", others, best), z)
    rivals = b("Div", rivals, b("ReduceSum", rivals, row, keepdims=1))
    d_hinge = b("Mul", b("Sub", rivals, target), b.mask(b("Greater", gap, 0.0), z))

    loss = b("Add", b("Mul", w_ce, ce), b("Mul", w_margin, b("Squeeze", hinge, row)))
    seed = b(
        "Add",
        b("Mul", b("Unsqueeze", w_ce, row), d_ce),
        b("Mul", b("Unsqueeze", w_margin, row), d_hinge),
    )
    return loss, seed
