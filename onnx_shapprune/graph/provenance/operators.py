"""Operators by what they can do to the way of a picture; where a set is used says what follows from it."""

# Mix their input by stored weights.
LAYERS = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "Einsum",
        "LSTM",
        "GRU",
        "RNN",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
        "DeformConv",
        "FusedConv",
        "FusedMatMul",
        "Attention",
        "QGemm",
    }
)
# Draw at run time.
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
# Give the shape of a tensor and nothing of its values.
ASKS_SHAPE = frozenset({"Shape", "Size"})
# Put sizes together.
ARRANGES = frozenset({"Identity", "Gather", "Slice", "Concat", "Reshape", "Squeeze", "Unsqueeze"})
# Run graphs of their own, with values that cannot be asked for from outside.
CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
# Make one of a few values of what they read: small changes vanish or jump.
COMPARES = CONTROL | frozenset(
    {
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
        "Equal",
        "Sign",
        "IsNaN",
        "IsInf",
        "ArgMax",
        "ArgMin",
        "TopK",
        "Hardmax",
        "OneHot",
        "NonZero",
        "Unique",
        "Mod",
        "BitShift",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "Compress",
        "Shrink",
        "ThresholdedRelu",
        "NonMaxSuppression",
        "Binarizer",
    }
)
# Of these, the ones that activations are written with.
SAME_EVERYWHERE = frozenset(
    {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Sign", "IsNaN", "IsInf", "ThresholdedRelu"}
)
# To whole numbers.
ROUNDS = frozenset({"Round", "Floor", "Ceil"})
# Put values in other places or types.
MOVES = frozenset({"Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Identity", "Expand"})
# Make each value of those at its place.
EACH = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "Cos",
        "Div",
        "Exp",
        "Log",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pow",
        "Reciprocal",
        "Relu",
        "Sigmoid",
        "Sin",
        "Sqrt",
        "Sub",
        "Tanh",
        "Where",
    }
)
# Read or write values by their numbers, which are the second input.
BY_NUMBER = frozenset({"Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements"})
# Means, norms and extremes.
MEANS = frozenset(
    {
        "ReduceMean",
        "ReduceSum",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceMax",
        "ReduceMin",
        "ReduceLogSumExp",
        "GlobalAveragePool",
    }
)
# What these and deviations are made of.
STATISTICS = (
    MEANS | MOVES | {"Sqrt", "Pow", "Mul", "Add", "Sub", "Div", "Reciprocal", "Abs", "Neg", "Exp", "Log", "Sum"}
)
# Make one value of many, without weights.
REDUCES = MEANS | {
    "ReduceProd",
    "ReduceLogSum",
    "GlobalMaxPool",
    "GlobalLpPool",
    "AveragePool",
    "MaxPool",
    "LpPool",
    "CumSum",
    "Softmax",
    "LogSoftmax",
    "LRN",
    "TopK",
    "DFT",
}
# Of these, the ones that add up.
LINEAR = frozenset({"ReduceMean", "ReduceSum", "GlobalAveragePool"})
# Give one of what they read, and nothing of the others.
CHOOSES = frozenset({"Max", "Min", "Where"})
# Activations that rise, or stay, with each value by itself; gates are made with them.
BENDS = frozenset({"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "Tanh"})
# Attributes whose product is the slope of an activation on one side.
SLOPES = {"LeakyRelu": ("alpha",), "Elu": ("alpha",), "Selu": ("alpha", "gamma")}
# Activations of no network, which get steeper and steeper.
WITHOUT_END = frozenset({"Sinh", "Cosh", "Tan", "Atanh", "Acosh"})
# Add up what they read, or take it off.
SUMS = frozenset({"Add", "Sub", "Sum", "Mean"})
# Of a divisor, so that it is not 0.
BOUNDS = frozenset({"Max", "Clip"})
# Infinite or no number of some finite values; Div is where the picture divides.
PARTIAL = frozenset(
    {"Log", "Sqrt", "Pow", "Exp", "Reciprocal", "Tan", "Asin", "Acos", "Atanh", "Acosh", "Sinh", "Cosh", "ReduceLogSum"}
)
