"""What several records have in common: numbers that are finite, the files that took part, the pictures, units, rates.

Every field is JSON-ready and finite; "could not tell" is None beside a reason, never NaN or -1. Minor schema versions only
add fields; readers ignore keys they do not know and refuse another major version.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = "1.5"
Verdict = Literal["pass", "fail", "inconclusive"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
PValue = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Part(BaseModel):
    """Base of all record parts: frozen, and strict about its own fields when made in code."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class FileDigest(Part):
    """One file that took part: name without folders, bytes, sha256. path: below the repository that the run was in, ""
    where it lay elsewhere.
    """

    name: str
    size: int
    sha256: str
    path: str = ""


class ModelPart(Part):
    """The audited file. `sha256` is of the .onnx file itself; `external` lists its data files; `path` as in FileDigest. Of a
    file that was refused before it was read, numbers are 0 and names empty.
    """

    name: str
    sha256: str
    size: int
    external: tuple[FileDigest, ...] = ()
    producer: str = ""
    opset: int
    input: str
    input_shape: tuple[int, ...]
    layout: Literal["NCHW", "NHWC"]
    output: str
    classes: int
    class_names: tuple[str, ...] = ()
    parameters: int
    copy_difference: Finite
    path: str = ""


class DataPart(Part):
    """The clean pictures. `label_source`: "given", "folder", "model" (the model's own answers) or "synthesised" (the
    pictures were drawn out of the model too). preprocessing: "checked" where labels agree with the model's answers,
    "unlikely" where they do not, "unchecked" where nobody gave any, None in records that do not say.
    """

    pictures: int
    digest: str
    label_source: Literal["given", "folder", "model", "synthesised"]
    classes_covered: int
    preprocessing: Literal["checked", "unlikely", "unchecked"] | None = None

    @property
    def drawn(self) -> bool:
        """Whether the pictures came out of the model: rates and costs on them say little of real ones."""
        return self.label_source == "synthesised"

    @property
    def stands(self) -> Literal["checked", "unlikely", "unchecked"]:
        """What labels say of the preprocessing, and with it of every rate."""
        return self.preprocessing or ("checked" if self.label_source in ("given", "folder") else "unchecked")


class UnitRef(Part):
    """One channel of one layer of the original file."""

    layer: str
    channel: int


class Rates(Part):
    """Few-shot rates in 0..1, None where nothing could be measured. asr: of the recovered triggers; racc: triggered
    pictures still given their own class; pictures, triggered: how many were measured. lost, surely_lost: of a file that is
    compared with another one, clean answers that it loses on these pictures, and a one-sided 95 % lower bound of the share.
    """

    acc: Finite | None
    asr: Finite | None
    racc: Finite | None = None
    pictures: int = 0
    triggered: int = 0
    lost: Finite | None = None
    surely_lost: Finite | None = None


class Environment(Part):
    """Versions, the provider that really ran, threads, platform."""

    onnx_shapprune: str
    python: str
    onnx: str
    onnxruntime: str
    numpy: str
    platform: str
    device: str
    providers: tuple[str, ...]
    threads: int


class FindingPart(Part):
    """Something a reader should know. level: from "high" on a file is refused; rule: an id of gate/rules.py, or ""."""

    level: Literal["note", "warning", "high", "critical"]
    text: str
    rule: str = ""


class ThresholdsPart(Part):
    """What decided (detect/thresholds.py): p-values from which a goal is named, doubted, or named beside another; pictures
    under which a success rate is no evidence; the most of them that a dead trigger moves; clean answers that may be lost;
    the share of a lead that is gone under which a goal is a natural weakness. planted: null since schema 1.4.
    """

    named: PValue
    doubt: PValue
    second: PValue
    moved: int
    alive: Finite
    clean_budget: Finite
    planted: Finite | None = None
    natural: Finite | None = None
