"""One root error and a child per cause.

Every error here ends a run with one line on stderr that says what is wrong, where, and what to do, and with exit code 2
(could not run), unless it says another: that a file is hostile is a finding (1), that a limit was hit proves nothing (3).
"""

from collections.abc import Sequence


class ShapPruneError(Exception):
    """Root of everything this package raises on purpose."""

    exit_code = 2


# How the message of a ModelError begins that says of a readable file that this tool is not for it.
NOT_APPLICABLE = "not an image classifier"


class ModelError(ShapPruneError):
    """The file is missing, broken, too large, or no image classifier."""


class HostileFileError(ModelError):
    """A file was refused before anything of it ran, because of what stands in it."""

    exit_code = 1

    def __init__(self, hazards: Sequence[tuple[str, str]]) -> None:
        """hazards: (rule id, what was found in words), the one that is named first."""
        self.hazards = tuple(hazards)
        rule, text = self.hazards[0]
        more = f" (and {len(hazards) - 1} more, see shapprune inspect)" if len(hazards) > 1 else ""
        super().__init__(f"hostile file refused: {rule}: {text}{more}")


class UnsupportedOpError(ModelError):
    """Operators on the way from the input to the logits have no gradient rule."""

    def __init__(self, nodes: list[tuple[str, str]]) -> None:
        """nodes: (operator, node name) of every node without a rule, in graph order."""
        self.nodes = tuple(nodes)
        listed = ", ".join(f"{op} ({name})" for op, name in nodes[:20])
        more = f" and {len(nodes) - 20} more" if len(nodes) > 20 else ""
        super().__init__(f"no gradient rule for: {listed}{more}")


class LimitError(ShapPruneError):
    """A limit of time or memory was hit: nothing can be told."""

    exit_code = 3


class CrashError(ShapPruneError):
    """The process that worked on a file died, or answered with what is no result."""


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


class ListError(ShapPruneError):
    """A list of models cannot be understood, or has none."""


class EngineError(ShapPruneError):
    """What runs the audits of a batch cannot be reached, or has lost one."""


class VerifyError(ShapPruneError):
    """A result contradicts a proof obligation: masked != baked, or the prepared copy differs from the file."""
