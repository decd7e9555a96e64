"""More threads than cores only spin: the number is cut, and that is said."""

import pytest
from invocations import run

from onnx_shapprune.cli import threads


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)


@pytest.mark.parametrize(("asked", "used"), [(0, 0), (1, 1), (2, 2), (3, 2), (99, 2)])
def test_threads_are_capped_and_that_is_said(fake, model, pictures, two_cores, asked, used):
    result = run("audit", model, "--data", pictures, "--threads", asked)
    assert fake.settings["run"].threads == used
    note = f"note: --threads {asked} is more than there is: 2 cores are used\n"
    assert (note in result.stderr) is (asked > used)
