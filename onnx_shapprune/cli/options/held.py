"""What a record is held against; arrives as `held`."""

from dataclasses import dataclass
from pathlib import Path

from onnx_shapprune.cli.options.declare import bundled, option
from onnx_shapprune.cli.sections import OTHER
from onnx_shapprune.cli.values import FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Files that decide beside the record itself."""

    policy: Path | None
    """What the record must show; None: the default policy."""
    model: Path | None
    """The file to be deployed, whose bytes are compared."""
    baseline: Path | None
    """An earlier record, whose findings may be let pass."""

    @property
    def files(self) -> tuple[Path | None, ...]:
        """All of them, which must not be written to."""
        return (self.policy, self.model, self.baseline)


held_options = bundled(
    "held",
    Held,
    option(
        OTHER,
        "--policy",
        type=FILE,
        metavar="POLICY.toml",
        help="What the report must show.  [default: see shapprune schema policy]",
    ),
    option(
        OTHER,
        "--model",
        type=FILE,
        metavar="MODEL.onnx",
        help="The file to be deployed: hashed, and refused where the report is about other bytes.",
    ),
    option(
        OTHER,
        "--baseline",
        type=FILE,
        metavar="REPORT.json",
        help="An earlier report: what it has too is shown and let pass, where the policy lists it (fail.baselines).",
    ),
)
