"""Audits that are played by small scripts, in real child processes, and what is done with their results."""

import datetime
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest
from record_samples import audit_record

from onnx_shapprune.fleet.batch import BatchOptions, batch
from onnx_shapprune.fleet.listing import read_entries
from onnx_shapprune.fleet.results import Result, ResultsFolder
from onnx_shapprune.gate.policy import load_policy
from onnx_shapprune.isolation import run as run_module
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.report.text import json_text
from onnx_shapprune.settings import RunOptions

PLAYED = Path(__file__).with_name("played.py")
TODAY = datetime.date(2026, 1, 1)


class Fleet:
    """A folder of models that say how their audits end, and the batch that runs them."""

    def __init__(self, folder: Path) -> None:
        self.models, self.results = folder / "models", folder / "results"
        self.records = folder / "records"
        for place in (self.models, self.records):
            place.mkdir()
        for verdict in ("pass", "fail", "inconclusive"):
            (self.records / f"{verdict}.json").write_text(json_text(audit_record(verdict=verdict, repair="not_tried")))

    def add(self, name: str, text: str) -> Path:
        path = self.models / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def runs(self) -> list[str]:
        """Names of the models whose audits were begun since the last call, sorted."""
        log = self.records / "runs.log"
        names = sorted(log.read_text().split()) if log.exists() else []
        log.unlink(missing_ok=True)
        return names

    def folder(self, policy: Path | None = None) -> ResultsFolder:
        return ResultsFolder(self.results, load_policy(policy), TODAY)

    def __call__(
        self, *, executor: Executor | None = None, seconds: float = 30, policy: Path | None = None,
        source: Path | None = None, progress: Callable[..., None] | None = None, data: str | None = "none", seed: int = 0,
        **options: bool,
    ) -> dict[str, Result]:  # fmt: skip
        """Results by name of the model."""
        entries = read_entries(source or self.models, data=data)
        wanted = BatchOptions(limits=ProcessLimits(seconds=seconds), run=RunOptions(seed=seed), **options)
        with executor or ThreadPoolExecutor(2) as pool:
            done = batch(entries, self.folder(policy), pool, wanted, progress=progress)
        assert [r.model for r in done] == [e.shown for e in entries]
        return {str(Path(r.model).relative_to(self.models) if source is None else r.model): r for r in done}

    def index(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.results / "index.jsonl").read_text().splitlines()]


@pytest.fixture
def fleet(tmp_path, monkeypatch) -> Fleet:
    made = Fleet(tmp_path)
    monkeypatch.setattr(run_module, "CHILD", (sys.executable, "-S", "-E", str(PLAYED)))
    monkeypatch.setenv("PLAYED_RECORDS", str(made.records))
    return made


@pytest.fixture
def environment(fleet) -> dict[str, str]:
    """For processes of their own."""
    package = str(Path(run_module.PACKAGES))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((package, str(PLAYED.parent))),
        "PLAYED_RECORDS": str(fleet.records),
    }
