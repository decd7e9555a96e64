"""The record of `shapprune doctor`."""

from typing import Literal

from pydantic import BaseModel

from onnx_shapprune.version import __version__


class Fact(BaseModel):
    """One thing that was looked at. advice: what to do about a problem, or to get what a note says is missing."""

    name: str
    value: str
    outcome: Literal["ok", "note", "problem"] = "ok"
    advice: str = ""


class InstallationRecord(BaseModel):
    """fit: whether an audit can run here."""

    version: str = __version__
    fit: bool
    facts: tuple[Fact, ...]
