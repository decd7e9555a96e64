"""At least one live, non-degenerate case for every registered rule; batch 3, so that the probe can see batch 2 too."""

from collections.abc import Mapping, Sequence

import numpy as np
from derivative import Array, Case


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def positive(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).uniform(0.5, 2.0, shape)


def apart(*shape: int, seed: int = 0) -> Array:
    """Numbers that all differ by at least 0.01: no ties and no order that a small step could turn."""
    count = int(np.prod(shape))
    return (np.random.default_rng([seed, *shape]).permutation(count) * 0.02 - 0.01 * count + 0.005).reshape(shape)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def unary(
    op: str,
    label: str = "plain",
    *,
    x: Array | None = None,
    opset: int = 18,
    newest: int | None = None,
    **attributes: object,
) -> Case:
    value = 2 * normal(3, 4, 5) if x is None else x
    return Case(op=op, label=label, inputs={"x": value}, order=["x"], attributes=attributes, opset=opset, newest=newest)


def with_constants(op: str, label: str, x: Array, constants: Mapping[str, Array], **attributes: object) -> Case:
    """Operands x and then the constants; one named "" plus anything is a left-out operand."""
    kept = {n: v for n, v in constants.items() if not n.startswith("absent")}
    order = ["x", *("" if n.startswith("absent") else n for n in constants)]
    return Case(op=op, label=label, inputs={"x": x}, order=order, constants=kept, attributes=attributes)


def binary(op: str, label: str, x: Array, z: Array, *, batched: Sequence[str] = ("x",), **attributes: object) -> Case:
    return Case(op=op, label=label, inputs={"x": x, "z": z}, order=["x", "z"], batched=batched, attributes=attributes)


ABSENT = ints()
PICTURE = normal(3, 4, 8, 6)

ACTIVATIONS = [
    *(unary(op) for op in ("Relu", "Elu", "Selu", "Celu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Erf", "Softplus")),
    *(unary(op) for op in ("Softsign", "Mish", "HardSwish", "Sin", "Cos", "Atan", "Identity", "Softmax", "LogSoftmax")),
    *(unary(op, x=positive(3, 4, 5)) for op in ("Log", "Sqrt", "Reciprocal")),
    unary("LeakyRelu", alpha=0.2),
    unary("LeakyRelu", "negative-alpha", alpha=-0.3),
    unary("Elu", "alpha", alpha=0.7),
    unary("Elu", "negative-alpha", alpha=-0.7),
    unary("Selu", "own-constants", alpha=1.3, gamma=0.6),
    unary("Celu", "alpha", alpha=0.5),
    unary("ThresholdedRelu", alpha=0.4),
    unary("Shrink", lambd=0.6, bias=0.2),
    unary("HardSigmoid", alpha=0.3, beta=0.4),
    unary("HardSigmoid", "defaults"),
    unary("Gelu", "exact", opset=20),
    unary("Gelu", "tanh", opset=20, approximate="tanh"),
    Case(op="Swish", label="plain", inputs={"x": normal(3, 4)}, order=["x"], opset=24, kernel=False),
    Case(
        op="Swish",
        label="alpha",
        inputs={"x": normal(3, 4)},
        order=["x"],
        attributes={"alpha": 1.7},
        opset=24,
        kernel=False,
    ),
    unary("Softmax", "axis1", axis=1),
    unary("LogSoftmax", "axis1", axis=1),
    with_constants("Clip", "both", 2 * normal(3, 4, 5), {"low": np.array(-1.0), "high": np.array(1.5)}),
    with_constants("Clip", "low", 2 * normal(3, 4, 5), {"low": np.array(-0.5)}),
    with_constants("Clip", "high", 2 * normal(3, 4, 5), {"absent": ABSENT, "high": np.array(0.5)}),
    unary("Clip", "unbounded"),
    binary("PRelu", "per-channel", PICTURE, normal(4, 1, 1)),
    binary("PRelu", "single", PICTURE, normal(1)),
    with_constants("Dropout", "inference", normal(3, 4), {"ratio": np.array(0.4), "training": np.array(False)}),
    Case(op="CastLike", label="float", inputs={"x": normal(3, 4)}, order=["x", "like"], constants={"like": normal(1)}),
    Case(op="Cast", label="double", inputs={"x": normal(3, 4)}, order=["x"], attributes={"to": 11}, result=np.float64),
]

ARITHMETIC = [
    *(
        binary(op, "same", normal(3, 4, 5), positive(3, 4, 5, seed=1), batched=("x", "z"))
        for op in ("Add", "Sub", "Mul", "Div")
    ),
    *(binary(op, "scalar", normal(3, 4, 5), positive(seed=1)) for op in ("Add", "Sub", "Mul", "Div")),
    *(binary(op, "lead", normal(3, 4, 5), positive(5, seed=1)) for op in ("Add", "Sub", "Mul", "Div")),
    *(binary(op, "both", normal(3, 1, 5), positive(4, 1, seed=1)) for op in ("Add", "Sub", "Mul", "Div")),
    binary("Mul", "mask-per-picture", PICTURE, positive(3, 4, 1, 1), batched=("x", "z")),
    binary("Mul", "mask-for-all", PICTURE, positive(1, 4, 1, 1)),
    with_constants("Pow", "square", normal(3, 4), {"p": np.array(2.0)}),
    with_constants("Pow", "cube-int", normal(3, 4), {"p": np.array(3, np.int64)}),
    with_constants("Pow", "per-column", positive(3, 4), {"p": np.array([0.5, -1.0, 2.5, 3.0])}),
    Case(op="Pow", label="runtime", inputs={"x": positive(3, 4), "p": positive(4)}, order=["x", "p"], fixed=["p"]),
    *(binary(op, "same", apart(3, 4, 5), apart(3, 4, 5, seed=1) + 0.003, batched=("x", "z")) for op in ("Max", "Min")),
    *(binary(op, "broadcast", apart(3, 4, 5), apart(4, 1, seed=1) + 0.003) for op in ("Max", "Min")),
    *(
        Case(
            op=op,
            label="three",
            inputs={"x": apart(3, 4), "z": apart(4, seed=1) + 0.003, "w": apart(3, 4, seed=2) + 0.006},
            order=["x", "z", "w"],
            batched=("x", "w"),
        )
        for op in ("Sum", "Mean", "Max")
    ),
    unary("Max", "one"),
    Case(
        op="Where",
        label="broadcast",
        inputs={"c": normal(3, 4) > 0, "x": normal(3, 4), "z": normal(4, seed=1)},
        order=["c", "x", "z"],
        batched=("c", "x"),
    ),
    with_constants("Expand", "stretch", normal(3, 1, 4), {"shape": ints(1, 5, 4)}),
    with_constants("Expand", "lead-and-stretch", normal(2, 1, 4), {"shape": ints(3, 2, 5, 4)}),
    with_constants("Mod", "fmod", positive(3, 4) + 0.1, {"z": np.array(0.7)}, fmod=1),
    *(
        with_constants(
            "CumSum", f"exclusive{e}-reverse{r}", normal(3, 4), {"axis": np.array(1)}, exclusive=e, reverse=r
        )
        for e in (0, 1)
        for r in (0, 1)
    ),
]

PRODUCTS = [
    *(
        Case(
            op="Gemm",
            label=f"a{ta}-b{tb}",
            inputs={
                "x": normal(4, 3) if ta else normal(3, 4),
                "w": normal(5, 4) if tb else normal(4, 5),
                "c": normal(5),
            },
            order=["x", "w", "c"],
            batched=() if ta else ("x",),
            attributes={"transA": ta, "transB": tb, "alpha": 0.7, "beta": 1.3},
        )
        for ta in (0, 1)
        for tb in (0, 1)
    ),
    binary("Gemm", "no-bias", normal(3, 4), normal(4, 5)),
    binary("Einsum", "batches", normal(3, 2, 4), normal(3, 4, 5), batched=("x", "z"), equation="bij, bjk -> bik"),
    binary("Einsum", "channels", normal(3, 4, 2, 2), normal(5, 4), equation="nchw,kc->nkhw"),
    binary("Einsum", "implicit", normal(3, 4), normal(4, 5), equation="ij,jk"),
    binary("MatMul", "matrices", normal(3, 4), normal(4, 5)),
    binary("MatMul", "batch-times-matrix", normal(3, 2, 4), normal(4, 5)),
    Case(op="MatMul", label="matrix-times-batch", inputs={"z": normal(6, 4), "x": normal(3, 4, 5)}, order=["z", "x"]),
    binary("MatMul", "batches", normal(3, 2, 4, 5), normal(3, 2, 5, 6), batched=("x", "z")),
    binary("MatMul", "broadcast-batches", normal(3, 1, 4, 5), normal(2, 5, 6)),
    binary("MatMul", "times-vector", normal(3, 4, 5), normal(5)),
    Case(op="MatMul", label="vector-times", inputs={"z": normal(4), "x": normal(3, 4, 5)}, order=["z", "x"]),
    binary("MatMul", "vectors", normal(5), normal(5, seed=1), batched=()),
]

REDUCED = (
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSumExp",
)
REDUCTIONS = [
    *(with_constants(op, "spatial", apart(3, 4, 3, 2), {"axes": ints(2, 3)}) for op in REDUCED),
    *(with_constants(op, "dropped", apart(3, 4, 3, 2), {"axes": ints(-1, 1)}, keepdims=0) for op in REDUCED),
    *(with_constants(op, "batch", apart(3, 4, 3, 2), {"axes": ints(0)}, keepdims=0) for op in REDUCED),
    *(unary(op, "everything", x=apart(3, 4, 2), keepdims=0) for op in REDUCED),
    *(unary(op, "nothing", x=apart(3, 4, 2), noop_with_empty_axes=1) for op in ("ReduceSum", "ReduceMean")),
    with_constants("ReduceLogSum", "spatial", positive(3, 4, 3, 2), {"axes": ints(2, 3)}),
    with_constants("ReduceLogSum", "dropped", positive(3, 4, 3, 2), {"axes": ints(1)}, keepdims=0),
    unary("GlobalAveragePool", x=PICTURE),
    unary("GlobalMaxPool", x=apart(3, 4, 5, 3)),
    unary("GlobalAveragePool", "one-axis", x=normal(3, 4, 5)),
]

SHAPES = [
    unary("Flatten", x=PICTURE),
    unary("Flatten", "axis2", x=PICTURE, axis=2),
    with_constants("Reshape", "merge", PICTURE, {"shape": ints(0, 4, -1)}),
    with_constants("Reshape", "batch-merged", PICTURE, {"shape": ints(-1, 6)}),
    with_constants("Squeeze", "axes", normal(3, 1, 4, 1), {"axes": ints(1, 3)}),
    unary("Squeeze", "all", x=normal(3, 1, 4, 1)),
    with_constants("Unsqueeze", "axes", normal(3, 4), {"axes": ints(0, -1)}),
    unary("Transpose", "reverse", x=normal(3, 4, 5)),
    unary("Transpose", "perm", x=normal(3, 4, 5, 2), perm=[2, 0, 3, 1]),
    Case(
        op="Concat",
        label="channels",
        inputs={"x": normal(3, 2, 5), "z": normal(3, 4, 5)},
        order=["x", "z", "x"],
        batched=("x", "z"),
        attributes={"axis": 1},
    ),
    Case(
        op="Concat",
        label="batch",
        inputs={"x": normal(3, 5), "z": normal(2, 5)},
        order=["x", "z"],
        attributes={"axis": 0},
    ),
    unary("Concat", "one", x=normal(3, 5), axis=1),
    Case(
        op="Split",
        label="even",
        inputs={"x": normal(3, 6)},
        order=["x"],
        outputs=3,
        attributes={"axis": 1, "num_outputs": 3},
    ),
    Case(
        op="Split",
        label="sizes",
        inputs={"x": normal(3, 6)},
        order=["x", "sizes"],
        constants={"sizes": ints(1, 5)},
        outputs=2,
        attributes={"axis": -1},
    ),
    *(unary("DepthToSpace", mode, x=normal(3, 8, 2, 3), blocksize=2, mode=mode) for mode in ("DCR", "CRD")),
    unary("SpaceToDepth", x=normal(3, 2, 4, 6), blocksize=2, newest=27),
    unary("Trilu", x=normal(3, 4, 5)),
    with_constants("Trilu", "lower", normal(3, 4, 5), {"k": np.array(-1)}, upper=0),
    with_constants("Tile", "some", normal(3, 4, 2), {"repeats": ints(1, 2, 3)}),
    with_constants("Tile", "batch", normal(3, 4), {"repeats": ints(2, 1)}),
]

BIG = np.iinfo(np.int64).max


def sliced(label: str, starts: Array, ends: Array, axes: Array, steps: Array | None = None) -> Case:
    constants = {"starts": starts, "ends": ends, "axes": axes} | ({} if steps is None else {"steps": steps})
    return with_constants("Slice", label, normal(3, 6, 7), constants)


def padded(label: str, pads: Array, mode: str = "constant", *, axes: Array | None = None, **options: int) -> Case:
    constants = {"pads": pads, "fill": np.array(0.7)} | ({} if axes is None else {"axes": axes})
    case = with_constants("Pad", label, normal(3, 2, 6, 5), constants, mode=mode)
    return Case(
        op="Pad",
        label=f"{mode}-{label}",
        inputs=case.inputs,
        order=case.order,
        constants=constants,
        attributes=case.attributes,
        opset=options.get("opset", 18),
    )


INDEXING = [
    sliced("run", ints(1, -4), ints(4, -1), ints(1, 2)),
    sliced("open", ints(0, 2), ints(BIG, BIG), ints(0, 2)),
    sliced("strided", ints(1, 0), ints(6, BIG), ints(1, 2), ints(2, 3)),
    sliced("reversed", ints(-1), ints(-BIG), ints(1), ints(-1)),
    sliced("reversed-part", ints(4), ints(0), ints(2), ints(-2)),
    padded("both", ints(0, 0, 1, 2, 0, 0, 3, 0)),
    padded("crop", ints(0, 0, -1, 2, 0, 0, 0, -2)),
    padded("axes", ints(1, 2, 0, 1), axes=ints(2, -1)),
    padded("both", ints(0, 0, 1, 2, 0, 0, 3, 4), "reflect"),
    padded("both", ints(0, 0, 1, 2, 0, 0, 3, 0), "edge"),
    padded("both", ints(0, 1, 1, 2, 0, 0, 3, 0), "wrap", opset=19),
    with_constants("Gather", "scalar", normal(3, 6, 4), {"i": np.array(2)}, axis=1),
    with_constants("Gather", "negative", normal(3, 6, 4), {"i": np.array(-1)}, axis=2),
    with_constants("Gather", "run", normal(3, 6, 4), {"i": ints(1, 2, 3)}, axis=1),
    with_constants("Gather", "repeated", normal(3, 6, 4), {"i": ints(4, 0, 4)}, axis=1),
    with_constants("Gather", "matrix", normal(3, 6, 4), {"i": np.array([[0, 5], [5, 2]])}, axis=1),
    Case(
        op="Gather",
        label="runtime",
        inputs={"x": normal(3, 6, 4), "i": np.array([[0, 5], [5, 2]])},
        order=["x", "i"],
        attributes={"axis": 1},
    ),
    Case(op="Gather", label="runtime-lead", inputs={"x": normal(3, 6, 4), "i": ints(1, 0, 1)}, order=["x", "i"]),
    Case(
        op="GatherND",
        label="pairs",
        inputs={"x": normal(3, 6, 4), "i": np.array([[0, 5], [1, 2], [0, 5]])},
        order=["x", "i"],
    ),
    Case(
        op="ScatterND",
        label="pairs",
        inputs={"x": normal(3, 6, 4), "i": np.array([[0, 5], [1, 2]]), "u": normal(2, 4)},
        order=["x", "i", "u"],
    ),
    Case(
        op="ScatterND",
        label="added",
        inputs={"x": normal(3, 6, 4), "i": np.array([[0, 5], [1, 2], [0, 5]]), "u": normal(3, 4)},
        order=["x", "i", "u"],
        attributes={"reduction": "add"},
    ),
    Case(
        op="GatherElements",
        label="repeated",
        inputs={"x": normal(3, 4), "i": np.array([[0, 0], [3, 1], [2, 2]])},
        order=["x", "i"],
        batched=("x", "i"),
        attributes={"axis": 1},
    ),
    Case(op="TopK", label="largest", inputs={"x": apart(3, 7)}, order=["x", "k"], constants={"k": ints(3)}, unused=1),
    Case(
        op="TopK",
        label="smallest-axis1",
        inputs={"x": apart(3, 7, 2)},
        order=["x", "k"],
        constants={"k": ints(2)},
        attributes={"axis": 1, "largest": 0},
        unused=1,
    ),
]


def conv(label: str, x: tuple[int, ...], w: tuple[int, ...], *, op: str = "Conv", **attributes: object) -> Case:
    """Kernel and bias: the kernel is a constant, the bias an input so that its gradient is tested too."""
    out = w[0] if op == "Conv" else w[1] * int(attributes.get("group", 1))  # type: ignore[call-overload]
    return Case(
        op=op,
        label=label,
        inputs={"x": normal(*x), "bias": normal(out)},
        order=["x", "w", "bias"],
        constants={"w": normal(*w, seed=1)},
        attributes=attributes,
    )


CONVOLUTIONS = [
    conv("stem", (3, 3, 7, 6), (4, 3, 3, 3), pads=[1, 1, 1, 1]),
    conv("rotated", (3, 16, 6, 5), (4, 16, 3, 3), pads=[1, 1, 1, 1]),
    conv("rotated-uneven", (3, 16, 7, 6), (4, 16, 3, 2), pads=[0, 1, 2, 0]),
    conv("rotated-dilated", (3, 16, 8, 8), (4, 16, 3, 3), pads=[2, 2, 1, 0], dilations=[2, 2]),
    conv("rotated-groups", (3, 16, 5, 5), (8, 4, 3, 3), pads=[1, 1, 1, 1], group=4),
    conv("rotated-depthwise", (3, 16, 5, 6), (32, 1, 3, 3), pads=[1, 1, 1, 1], group=16),
    conv("rotated-one-axis", (3, 16, 9), (4, 16, 3), pads=[1, 0]),
    conv("rotated-same", (3, 16, 6, 6), (4, 16, 2, 3), auto_pad="SAME_UPPER"),
    conv("padded-beyond-the-kernel", (3, 16, 5, 5), (4, 16, 1, 1), pads=[1, 1, 1, 1]),
    conv("pointwise", (3, 16, 5, 5), (6, 16, 1, 1)),
    *(
        conv(f"stride{s}-size{n}-pad{p}", (3, 2, n, n + 1), (4, 2, 3, 3), strides=[s, s], pads=[p] * 4)
        for s in (2, 3)
        for n in (7, 8)
        for p in (0, 1)
    ),
    conv("stride-dilated", (3, 2, 11, 9), (4, 2, 3, 3), strides=[3, 2], dilations=[2, 2], pads=[1, 0, 2, 1]),
    conv("stride-lower", (3, 2, 8, 7), (4, 2, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    conv("stride-upper", (3, 2, 8, 7), (4, 2, 2, 3), strides=[2, 3], auto_pad="SAME_UPPER"),
    conv("valid", (3, 2, 8, 7), (4, 2, 3, 3), strides=[2, 2], auto_pad="VALID"),
    conv("patches", (3, 3, 8, 8), (6, 3, 4, 4), strides=[4, 4]),
    conv("skipping", (3, 16, 7, 7), (6, 16, 1, 1), strides=[2, 2]),
    conv("stride-groups", (3, 16, 7, 8), (8, 4, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], group=4),
    *(
        conv(
            f"depthwise-stride2-size{n}-kernel{k}",
            (3, 16, n, n + 1),
            (16, 1, k, k),
            strides=[2, 2],
            pads=[k // 2] * 4,
            group=16,
        )
        for n in (7, 8)
        for k in (1, 3, 5)
    ),
    conv("depthwise-stride2-uneven", (3, 16, 8, 9), (16, 1, 3, 3), strides=[2, 2], pads=[0, 0, 1, 1], group=16),
    conv("three-axes", (3, 2, 5, 6, 4), (3, 2, 3, 2, 2), strides=[2, 1, 1]),
    conv(
        "up", (3, 4, 5, 4), (4, 3, 3, 3), op="ConvTranspose", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 0]
    ),
    conv("up-plain", (3, 4, 5, 4), (4, 3, 2, 2), op="ConvTranspose", strides=[2, 2]),
    conv("up-groups", (3, 4, 5, 4), (4, 3, 3, 3), op="ConvTranspose", group=2, dilations=[2, 1], pads=[1, 0, 2, 1]),
]


def pool(op: str, label: str, x: tuple[int, ...], *, opset: int = 18, **attributes: object) -> Case:
    return Case(op=op, label=label, inputs={"x": apart(*x)}, order=["x"], attributes=attributes, opset=opset)


POOLS = [
    pool("MaxPool", "tiling", (3, 2, 6, 8), kernel_shape=[2, 2], strides=[2, 2]),
    pool("MaxPool", "tiling-oblong", (3, 2, 6, 8), kernel_shape=[3, 2], strides=[3, 2]),
    pool("MaxPool", "remainder", (3, 2, 7, 9), kernel_shape=[2, 2], strides=[2, 2]),
    pool("MaxPool", "overlapping", (3, 2, 7, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    # onnx.reference gives wrong Indices for strides of 1.
    Case(
        op="MaxPool",
        label="stride1",
        inputs={"x": apart(3, 2, 5, 6)},
        order=["x"],
        attributes={"kernel_shape": [2, 3]},
        reference=False,
    ),
    pool("MaxPool", "ceil", (3, 2, 7, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    pool("MaxPool", "dilated", (3, 2, 8, 8), kernel_shape=[2, 2], dilations=[2, 3], strides=[2, 1]),
    pool("MaxPool", "same", (3, 2, 7, 8), kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    pool("MaxPool", "one-axis", (3, 2, 9), kernel_shape=[3], strides=[2]),
    pool("MaxPool", "three-axes", (3, 2, 4, 4, 6), kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
    pool("AveragePool", "tiling", (3, 2, 6, 8), kernel_shape=[2, 2], strides=[2, 2]),
    pool("AveragePool", "tiling-oblong", (3, 2, 6, 8), kernel_shape=[3, 2], strides=[3, 2]),
    pool("AveragePool", "remainder", (3, 2, 7, 9), kernel_shape=[2, 2], strides=[2, 2]),
    pool("AveragePool", "stride1", (3, 2, 6, 5), kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]),
    pool("AveragePool", "count-pads", (3, 2, 6, 5), kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    pool("AveragePool", "ceil", (3, 2, 7, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    pool("AveragePool", "same", (3, 2, 7, 8), kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    pool("AveragePool", "dilated", (3, 2, 8, 8), kernel_shape=[2, 2], dilations=[2, 3], strides=[2, 1], opset=19),
    pool("AveragePool", "one-axis", (3, 2, 9), kernel_shape=[3], strides=[2]),
    pool("AveragePool", "three-axes", (3, 2, 4, 5, 6), kernel_shape=[2, 3, 2], strides=[2, 1, 2]),
]


def resized(
    label: str, *, scales: Sequence[float] = (), sizes: Sequence[int] = (), opset: int = 18, **attributes: object
) -> Case:
    if scales:
        constants: dict[str, Array] = {"scales": np.array(scales, np.float32)}
        order = ["x", "", "scales"]
    else:
        constants, order = {"sizes": ints(*sizes)}, ["x", "", "", "sizes"]
    x = normal(3, 2, 5, 4)
    return Case(
        op="Resize",
        label=label,
        inputs={"x": x},
        order=order,
        constants=constants,
        attributes=attributes,
        opset=opset,
        tolerance=1e-5,  # the rule finds the interpolation weights in float32
    )


def sampled(label: str, mode: str = "linear", opset: int = 20, **attributes: object) -> Case:
    """Places all around the picture, some of them beside it, none on a pixel."""
    grid = np.random.default_rng(5).uniform(-1.3, 1.3, (3, 4, 3, 2))
    return Case(
        op="GridSample",
        label=label,
        inputs={"x": normal(3, 2, 5, 4), "grid": grid},
        order=["x", "grid"],
        attributes={"mode": mode, **attributes},
        batched=("x", "grid"),
        opset=opset,
        newest=None if mode == "linear" else 19,
    )


RESAMPLING = [
    sampled("zeros"),
    sampled("zeros, corners aligned", align_corners=1),
    sampled("border", padding_mode="border"),
    sampled("border, corners aligned", padding_mode="border", align_corners=1),
    sampled("bilinear", mode="bilinear", opset=18),
    resized(
        "nearest-integer",
        scales=(1, 1, 2, 3),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    resized("nearest-half-pixel", scales=(1, 1, 2, 2), mode="nearest"),
    resized("nearest-fraction", scales=(1, 1, 1.6, 0.5), mode="nearest"),
    resized("nearest-sizes", sizes=(9, 7), axes=[2, 3], mode="nearest"),
    resized("linear", scales=(1, 1, 2, 2), mode="linear"),
    resized("linear-down", scales=(1, 1, 0.6, 0.75), mode="linear"),
    resized(
        "linear-align-corners", sizes=(9, 7), axes=[2, 3], mode="linear", coordinate_transformation_mode="align_corners"
    ),
    resized(
        "linear-one-axis", scales=(1, 1, 1, 1.5), mode="linear", coordinate_transformation_mode="pytorch_half_pixel"
    ),
    resized("linear-antialias", scales=(1, 1, 0.6, 0.5), mode="linear", antialias=1),
    resized("cubic", scales=(1, 1, 1.6, 2), mode="cubic"),
    resized("cubic-outside", scales=(1, 1, 2, 2), mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5),
]


def normalised(
    op: str,
    label: str,
    x: tuple[int, ...],
    shape: tuple[int, ...],
    *,
    bias: bool = True,
    opset: int = 18,
    newest: int | None = None,
    fixed: Sequence[str] = (),
    **attributes: object,
) -> Case:
    inputs: dict[str, Array] = {"x": normal(*x), "scale": positive(*shape)}
    if bias:
        inputs["bias"] = normal(*shape)
    return Case(
        op=op,
        label=label,
        inputs=inputs,
        order=list(inputs),
        attributes=attributes,
        opset=opset,
        newest=newest,
        fixed=fixed,
    )


def batch_norm(label: str, x: tuple[int, ...], *, constant_scale: bool) -> Case:
    parameters = {"scale": normal(x[1]), "bias": normal(x[1], seed=1)}
    statistics = {"mean": normal(x[1], seed=2), "var": positive(x[1])}
    inputs = {"x": normal(*x)} | ({} if constant_scale else parameters)
    constants = statistics | (parameters if constant_scale else {})
    return Case(
        op="BatchNormalization",
        label=label,
        inputs=inputs,
        order=["x", "scale", "bias", "mean", "var"],
        constants=constants,
        attributes={"epsilon": 1e-3},
    )


NORMALISATIONS = [
    batch_norm("folded", (3, 4, 5, 6), constant_scale=True),
    batch_norm("parameters", (3, 4, 5, 6), constant_scale=False),
    batch_norm("flat", (3, 4), constant_scale=False),
    normalised("LayerNormalization", "last", (3, 4, 6), (6,), epsilon=1e-3),
    normalised("LayerNormalization", "two-axes", (3, 4, 6), (4, 6), axis=1),
    normalised("LayerNormalization", "no-bias", (3, 4, 6), (6,), bias=False),
    normalised("RMSNormalization", "last", (3, 4, 6), (6,), bias=False, opset=23, epsilon=1e-3),
    normalised("RMSNormalization", "two-axes", (3, 4, 6), (4, 6), bias=False, opset=23, axis=1),
    normalised("InstanceNormalization", "picture", (3, 4, 5, 6), (4,)),
    normalised("GroupNormalization", "per-group", (3, 6, 4, 5), (2,), newest=20, num_groups=2, fixed=("scale", "bias")),
    normalised("GroupNormalization", "per-channel", (3, 6, 4, 5), (6,), opset=21, num_groups=2),
    unary("LpNormalization", "euclidean", axis=1),
    unary("LpNormalization", "moduli", axis=-1, p=1),
    unary("LRN", "three", x=3 * normal(3, 7, 4, 3), size=3, alpha=0.5, beta=0.6, bias=1.5),
    unary("LRN", "five", x=3 * normal(3, 7, 4, 3), size=5),
]

CASES = [
    *ACTIVATIONS,
    *ARITHMETIC,
    *PRODUCTS,
    *REDUCTIONS,
    *SHAPES,
    *INDEXING,
    *CONVOLUTIONS,
    *POOLS,
    *RESAMPLING,
    *NORMALISATIONS,
]
