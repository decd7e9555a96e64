"""What a record must show: thresholds and waivers from a strict TOML file."""

import datetime
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from onnx_shapprune.detect.thresholds import ACCURACY_FLOOR, NAMED
from onnx_shapprune.errors import PolicyError
from onnx_shapprune.files.reading import read_regular_file
from onnx_shapprune.files.toml import parsed_toml
from onnx_shapprune.gate.judgement import Waiver
from onnx_shapprune.gate.rules import RULES, Severity
from onnx_shapprune.gate.spelling import meant
from onnx_shapprune.prune.thresholds import EXPECTED_SLACK, KNOWN_ALIVE, TOLERANCE
from onnx_shapprune.settings import RunOptions

MAX_POLICY_BYTES = 1 << 20
Share = Annotated[float, Field(ge=0, le=1)]
ANY_BASELINE = "any"
CLEAN_BUDGET = RunOptions().clean_budget


class Section(BaseModel):
    """A table of the file: no key but its own, no value of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Require(Section):
    """Without these nothing can be said. min_pictures: that were given; those that were drawn out of the model do not count.
    checked_preprocessing: given labels must speak for the preprocessing. min_accuracy is held against the pictures' labels
    where these were given. calibrations: sha256 of those that an audit may
    rest on, "packaged" for the one of this version, "any"; max_age_days: of the report, 0 for any age; min_tool_version: of
    the tool that made it, "" for any.
    """

    min_pictures: Annotated[int, Field(ge=0)] = 1
    labels: bool = False
    checked_preprocessing: bool = False
    min_accuracy: Share = ACCURACY_FLOOR
    everything_searched: bool = False
    calibrations: list[Annotated[str, Field(pattern=r"^(packaged|any|[0-9a-f]{64})$")]] = ["packaged"]
    max_age_days: Annotated[int, Field(ge=0)] = 0
    min_tool_version: Annotated[str, Field(pattern=r"^([0-9]{1,9}(\.[0-9]{1,9})*)?$")] = ""


class Fail(Section):
    """p_value: evidence that clean models show as rarely as this, or more rarely, counts as a backdoor; above the audit's
    own level it is stricter, below it what the audit named is named all the same. file_severity: what was found about the
    file itself counts from this severity on. baselines: sha256 of earlier reports whose findings may be let pass, or "any".
    """

    p_value: Annotated[float, Field(gt=0, le=0.5)] = NAMED
    file_severity: Severity = "high"
    baselines: list[Annotated[str, Field(pattern=r"^(any|[0-9a-f]{64})$")]] = []


class RepairLimits(Section):
    """Of files that were repaired. allowed: whether such a file may pass at all; max_accuracy_drop: that sanitize estimates
    for unseen pictures; max_surely_lost: lower bound of the clean answers lost on the pictures that were given.
    """

    allowed: bool = True
    max_accuracy_drop: Share = EXPECTED_SLACK * CLEAN_BUDGET
    max_surely_lost: Share = CLEAN_BUDGET
    max_residual_asr: Share = KNOWN_ALIVE
    max_difference: Share = TOLERANCE


class WaiverEntry(Section):
    """A waiver as written: the day is a TOML date."""

    rule: str
    model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    target_class: Annotated[int, Field(ge=0)] | None = None
    until: datetime.date
    reason: Annotated[str, Field(min_length=1)]
    by: Annotated[str, Field(min_length=1)]


class PolicyFile(Section):
    """The whole file."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    require: Require = Require()
    fail: Fail = Fail()
    repair: RepairLimits = RepairLimits()
    waiver: list[WaiverEntry] = []


class Policy(BaseModel):
    """A policy that was read. name: of the file, or "default"; sha256: of its text."""

    model_config = ConfigDict(frozen=True)

    name: str
    sha256: str
    require: Require
    fail: Fail
    repair: RepairLimits
    waivers: tuple[Waiver, ...] = ()


def default_policy_text() -> str:
    """The policy that holds where none is given."""
    return (files("onnx_shapprune.gate") / "default_policy.toml").read_text(encoding="utf-8")


def load_policy(path: Path | None) -> Policy:
    """Read a policy, None: the default one. Raises PolicyError, which names the key."""
    if path is None:
        name, payload = "default", default_policy_text().encode()
    else:
        name, payload = path.name, read_regular_file(path, limit=MAX_POLICY_BYTES, what="policy", error=PolicyError)
    try:
        content = parsed_toml(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, or no TOML
        raise PolicyError(f"{path} is no policy: {error}") from None
    try:
        read = PolicyFile.model_validate(content)
    except ValidationError as error:
        raise PolicyError(f"{path}: {_explained(error)}") from None
    return Policy(
        name=name,
        sha256=hashlib.sha256(payload).hexdigest(),
        require=read.require,
        fail=read.fail,
        repair=read.repair,
        waivers=_waivers(path, read.waiver),
    )


def _waivers(path: Path | None, entries: Sequence[WaiverEntry]) -> tuple[Waiver, ...]:
    waivers: list[Waiver] = []
    for number, entry in enumerate(entries, 1):
        where = f"{path}: waiver {number}"
        if entry.rule not in RULES:
            raise PolicyError(f"{where}: no rule {entry.rule!r}{meant(entry.rule, RULES)}")
        if entry.rule.startswith("OSP9"):
            raise PolicyError(
                f"{where}: {entry.rule} says that something was not measured, which no waiver makes up for; change "
                "[require] instead"
            )
        waiver = Waiver(**(entry.model_dump() | {"until": entry.until.isoformat()}))
        for other, earlier in enumerate(waivers, 1):
            if _scope(earlier) == _scope(waiver):
                raise PolicyError(f"{where} is about the same finding as waiver {other}")
        waivers.append(waiver)
    return tuple(waivers)


def _scope(waiver: Waiver) -> tuple[str, str, int | None]:
    return waiver.rule, waiver.model_sha256, waiver.target_class


def _explained(error: ValidationError) -> str:
    """The first thing that is wrong, with its key and what may have been meant."""
    first = error.errors(include_url=False)[0]
    *above, key = first["loc"]
    where = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys(above)
        return f"unknown key {where}" + (meant(str(key), known) or f" (known: {', '.join(known)})")
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "model_type":
        return f"{where} must be a table, [{where}]"
    if isinstance(given := first["input"], dict):
        if first["type"] == "list_type" and above == [] and key == "waiver":
            return "waiver must be a list of tables, [[waiver]]"
        inner = next(iter(given), "")
        return f"{where} is no table: {f'{where}.{inner}'[:80] if inner else f'[{where}]'} means nothing"
    return f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}, not {str(first['input'])[:40]!r}"


def _keys(above: Sequence[int | str]) -> list[str]:
    """Keys that a table may hold."""
    model: type[BaseModel] = PolicyFile
    for part in above:
        if isinstance(part, str):
            kind = model.model_fields[part].annotation
            model = next(t for t in (kind, *get_args(kind)) if isinstance(t, type) and issubclass(t, BaseModel))
    return [field.alias or name for name, field in model.model_fields.items()]
