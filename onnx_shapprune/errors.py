"""One root error and a child per cause.

Every error here ends a run with exit code 2 (could not run) and one line on stderr; a verdict is never an error. The
message says what is wrong, where, and what to do.
"""


class ShapPruneError(Exception):
    """Root of everything this package raises on purpose."""


class ModelError(ShapPruneError):
    """The file is missing, broken, too large, or no image classifier."""


class UnsupportedOpError(ModelError):
    """Operators on the way from the input to the logits have no gradient rule."""

    def __init__(self, nodes: list[tuple[str, str]]) -> None:
        """nodes: (operator, node name) of every node without a rule, in graph order."""
        self.nodes = tuple(nodes)
        listed = ", ".join(f"{op} ({name})" for op, name in nodes[:20])
        more = f" and {len(nodes) - 20} more" if len(nodes) > 20 else ""
        super().__init__(f"no gradient rule for: {listed}{more}")


class DataError(ShapPruneError):
    """Pictures, labels, a trigger or preprocessing settings cannot be used."""


class DeviceError(ShapPruneError):
    """A device that was asked for is not there."""


class OutputError(ShapPruneError):
    """A result cannot be written where it was asked for."""


class EvidenceError(ShapPruneError):
    """A record cannot be read, or is about other bytes than the model beside it."""


class PolicyError(ShapPruneError):
    """A policy says something that cannot be meant."""


class ConfigError(ShapPruneError):
    """A configuration file cannot be read, or names no option."""


class VerifyError(ShapPruneError):
    """A result contradicts a proof obligation: masked != baked, or the prepared copy differs from the file."""
