"""Which operators have a gradient rule, which have none by nature, and which are missing.

A rule is keyed by domain, operator and the range of schema versions it was written for, so that a new version of an
operator is missing until somebody has read its change. Absence is loud: the engine refuses a path with a missing rule.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import onnx

# The newest operator-set version whose schemas were read when the rules were written.
LAST_OPSET = 28

AttributeValue = int | float | str | list[int] | list[float] | None
T = TypeVar("T")


class RefusedError(Exception):
    """A rule cannot differentiate this node; the engine turns it into UnsupportedOpError with all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What a rule sees of a node. Absent optional inputs and outputs are "". `needs[i]`: input i wants a gradient."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    needs: tuple[bool, ...]
    attributes: dict[str, AttributeValue]

    def attribute(self, name: str, default: T) -> T:
        """The value of an attribute in the type of `default`, which stands in where it is absent."""
        value = self.attributes.get(name)
        return default if value is None else cast("T", value)

    def input(self, index: int) -> str:
        """Name of input `index`, "" where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def only(self, *indices: int) -> None:
        """Refuse when an input other than these wants a gradient."""
        for i, wanted in enumerate(self.needs):
            if wanted and i not in indices:
                raise RefusedError(f"no gradient to input {i} ({self.inputs[i]})")


# fn(b, node, dy) -> one gradient or None per input; with all_outputs fn(b, node, *dys), None for an output without one.
RuleFunction = Callable[..., list[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One registered rule. `broadcasts`: gradients come in the output's shape and the engine reduces them."""

    domain: str
    op: str
    since: int
    until: int
    function: RuleFunction
    broadcasts: bool
    all_outputs: bool


RULES: dict[tuple[str, str], list[Rule]] = {}

# The derivative of these is zero or not defined wherever it exists; gradients end here without an error as long as
# some other way leads from the asked-for tensor to the loss.
NO_GRADIENT = frozenset(
    {
        "And",
        "ArgMax",
        "ArgMin",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "Bernoulli",
        "BlackmanWindow",
        "Ceil",
        "ConstantOfShape",
        "DynamicQuantizeLinear",
        "Equal",
        "EyeLike",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "HammingWindow",
        "HannWindow",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "Multinomial",
        "NonMaxSuppression",
        "NonZero",
        "Not",
        "OneHot",
        "Or",
        "RandomNormalLike",
        "RandomUniformLike",
        "Range",
        "Round",
        "Shape",
        "Sign",
        "Size",
        "Xor",
    }
)


def vjp(
    op: str,
    *,
    since: int,
    until: int = LAST_OPSET,
    domain: str = "",
    broadcasts: bool = False,
    all_outputs: bool = False,
) -> Callable[[RuleFunction], RuleFunction]:
    """Register a rule for schema versions since..until of an operator. Raises ValueError when ranges overlap."""

    def register(function: RuleFunction) -> RuleFunction:
        rules = RULES.get((domain, op), [])
        if since > until or any(r.since <= until and since <= r.until for r in rules):
            raise ValueError(f"{op}: empty or overlapping version range [{since}, {until}]")
        if not domain and op in NO_GRADIENT:
            raise ValueError(f"{op}: listed as having no gradient")
        made = Rule(
            domain=domain,
            op=op,
            since=since,
            until=until,
            function=function,
            broadcasts=broadcasts,
            all_outputs=all_outputs,
        )
        RULES[domain, op] = [*rules, made]
        return function

    return register


def lookup(domain: str, op: str, opset: int) -> Rule | None:
    """The rule for an operator in a model of this opset, or None."""
    domain = "" if domain == "ai.onnx" else domain
    rules = RULES.get((domain, op), [])
    if not rules:
        return None
    try:
        version = onnx.defs.get_schema(op, opset, domain).since_version
    except onnx.defs.SchemaError:
        return None
    return next((r for r in rules if r.since <= version <= r.until), None)


def supported_ops() -> tuple[str, ...]:
    """Operators with a gradient rule, sorted; other domains as domain::op."""
    return tuple(sorted(f"{domain}::{op}" if domain else op for domain, op in RULES))
