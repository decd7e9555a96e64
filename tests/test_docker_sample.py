"""The container sample: without rights, without a network, and what it copies is there. No image is built here."""

import re
import shlex

from pages import ROOT

FOLDER = ROOT / "samples" / "docker"


def instructions() -> list[tuple[str, str]]:
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def test_it_runs_as_a_numeric_user_that_is_not_root_and_reads_no_settings():
    last = max(i for i, (name, _) in enumerate(instructions()) if name == "FROM")
    final = dict(instructions()[last:])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final["USER"])
    assert final["ENTRYPOINT"] == '["shapprune"]'
    assert "SHAPPRUNE_ISOLATED=1" in shlex.split(final["ENV"])


def test_what_is_copied_is_there():
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    files = [file for group in copied for file in group]
    assert "requirements-cpu.txt" in files
    assert all((ROOT / file).exists() for file in files)


def test_the_run_line_takes_everything_away():
    text = (FOLDER / "README.md").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^docker run .*$", text, re.M)
    words = shlex.split(line)
    for option, value in (("--network", "none"), ("--cap-drop", "ALL"), ("--security-opt", "no-new-privileges")):
        assert words[words.index(option) + 1] == value
    assert "--read-only" in words
    mounts = [words[i + 1] for i, word in enumerate(words) if word == "-v"]
    assert [m for m in mounts if not m.endswith(":ro")] == ["$PWD/out:/audit/out"]
