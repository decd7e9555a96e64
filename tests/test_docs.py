"""What README and the pages list is what the code has; what they tell a reader to type is understood."""

import hashlib
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import takewhile
from pathlib import Path

import click
import numpy as np
import pages
import pytest
import yaml
from record_samples import audit_record
from test_architecture import ORDER

import onnx_shapprune
from onnx_shapprune.autodiff.registry import RULES as GRADIENT_RULES
from onnx_shapprune.cli import demo, docs, exits, shapprune
from onnx_shapprune.cli.values import REPORT_FORMATS
from onnx_shapprune.commands import effort, repair
from onnx_shapprune.commands.values import ChannelValues
from onnx_shapprune.detect import thresholds as detect
from onnx_shapprune.detect.calibration import load_calibration
from onnx_shapprune.fleet import blocks, folder
from onnx_shapprune.gate.policy import load_policy
from onnx_shapprune.invert import families, relations, search
from onnx_shapprune.prune import thresholds as prune
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.report.formats import FORMATS
from onnx_shapprune.settings import ESTIMATORS, VALUES, InputOptions, RunOptions
from onnx_shapprune.shapley.exact import exact_estimate, exact_values

TEXTS = {p.stem: p.read_text(encoding="utf-8") for p in [pages.README, *sorted(pages.PAGES.glob("*.md"))]}
MAX_README = 12 * 1024
PACKAGE = Path(onnx_shapprune.__file__).parent
PACKAGED, FEW, CROWD, LARGE = (
    load_calibration(None).of(*of).domain for of in ((10, 32), (2, 32), (1000, 32), (10, 224))
)
assert PACKAGED is not None
assert FEW is not None
assert CROWD is not None
assert LARGE is not None

generated = pytest.mark.parametrize(
    ("path", "name"),
    [(path, name) for path, parts in pages.PARTS.items() for name in parts],
    ids=lambda v: str(v)[-20:],
)


def commands(block: str) -> list[list[str]]:
    """Arguments of every shapprune call in a shell block."""
    lines = (shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines())
    return [[*takewhile(lambda word: word != ">", line[1:])] for line in lines if line[:1] == ["shapprune"]]


def rows(text: str, header: str) -> list[list[str]]:
    """Cells of the table whose first header cell is `header`."""
    table = re.search(rf"^\| {header} \|.*?\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table, header
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()]


def refused(arguments: list[str]) -> str:
    """Why the program would not take these arguments, "" if it would."""
    name, *rest = arguments
    if name not in shapprune.commands:
        return f"no command {name}"
    parent = shapprune.make_context("shapprune", [name])  # commands keep the help option of the first context they see
    try:
        shapprune.commands[name].make_context(name, rest, parent=parent)
    except click.ClickException as error:
        return error.format_message()
    return ""


def example(heading: str) -> dict[str, object]:
    """Run the Python blocks of one section of the page on contributing; the names that they define."""
    _, _, rest = TEXTS["contributing"].partition(f"\n## {heading}\n")
    names: dict[str, object] = {}
    found = pages.blocks(rest.partition("\n## ")[0], "python")
    assert found, heading
    for block in found:
        exec(compile(block, f"contributing.md: {heading}", "exec"), names)
    return names


@pytest.fixture
def tested_like_the_others(monkeypatch):
    """What the tests in these folders use can be imported, whether or not they are collected too."""
    for name in ("autodiff", "report", "shapley"):
        monkeypatch.syspath_prepend(pages.ROOT / "tests" / name)


@generated
def test_a_generated_part_is_up_to_date(path, name):
    assert pages.part(TEXTS[path.stem], name) == pages.PARTS[path][name](), "run python -m tests.pages"


def test_an_outdated_part_is_noticed_and_rewritten():
    path = pages.PAGES / "models.md"
    spoilt = TEXTS["models"].replace("| straight through the rounding |", "| straight |")
    assert spoilt != TEXTS["models"]
    assert pages.part(spoilt, "operators") != pages.PARTS[path]["operators"]()
    assert pages.rewritten(spoilt, pages.PARTS[path]) == TEXTS["models"]


def test_the_readme_is_short():
    assert pages.README.stat().st_size <= MAX_README


def test_commands_in_shell_blocks_are_understood():
    found = [(page, c) for page, text in TEXTS.items() for b in pages.blocks(text, "sh") for c in commands(b)]
    assert {c[0] for _, c in found} >= set(shapprune.commands) - {"docs"}
    assert [(page, c, why) for page, c in found if (why := refused(c))] == []


def test_a_wrong_command_would_be_noticed():
    assert refused(["audit", "model.onnx", "--data", "pictures/", "--no-such-option"])
    assert refused(["audit", "model.onnx"])
    assert refused(["repair", "model.onnx"])


def test_options_that_are_named_exist():
    known = {o for c in shapprune.commands.values() for p in c.params for o in (*p.opts, *p.secondary_opts)}
    foreign = {"--zoo", "--out", "--threads", "--write", "--demo", "--seed", "--epochs", "--net", "--kinds", "--width"}
    foreign |= {"--only", "--files", "--network", "--resources", "--help", "--version", "--against"}
    named = {
        (page, option)
        for page, text in TEXTS.items()
        for code in re.findall(r"`([^`\n]+)`", text)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code)
    }
    assert len(named) > 50
    assert {(page, option) for page, option in named if option not in known | foreign} == set()


def test_preprocessing_settings_are_understood():
    settings = [
        shlex.split(cell.strip("`")) for _, cell in rows(TEXTS["pictures"], "the model expects") if cell.startswith("`")
    ]
    assert len(settings) == 3
    assert not any(refused(["audit", "m.onnx", "--data", "p", *options]) for options in settings)


def test_the_python_example_runs(monkeypatch, capsys):
    taken = {}

    def sanitize(model, data, *, output, inputs, run):
        taken.update(inputs=inputs, run=run)
        return audit_record()

    monkeypatch.setattr(repair, "sanitize", sanitize)
    block, _ = pages.blocks(TEXTS["python"], "python")
    exec(compile(block, "python.md", "exec"), {})
    assert isinstance(taken["inputs"], InputOptions)
    assert isinstance(taken["run"], RunOptions)
    assert capsys.readouterr().out.startswith("fail (3,) repaired")


def test_the_python_example_of_a_batch_and_a_gate_runs(tmp_path, monkeypatch, capsys):
    """The batch is not run, since it takes minutes; what it is given must fit its signature."""
    real = inspect.signature(folder.audit_batch)
    monkeypatch.setattr(folder, "audit_batch", lambda *given, **named: (real.bind(*given, **named),))
    record = audit_record()
    model = tmp_path / "model.onnx"
    model.write_bytes(b"a model")
    digest = hashlib.sha256(b"a model").hexdigest()
    about = record.model.model_copy(update={"sha256": digest, "size": 7, "external": ()})
    repair = record.repair.model_copy(update={"output": None})
    (tmp_path / "report.json").write_text(
        record.model_copy(update={"model": about, "repair": repair}).model_dump_json()
    )
    monkeypatch.chdir(tmp_path)
    _, block = pages.blocks(TEXTS["python"], "python")
    exec(compile(block, "python.md", "exec"), {})
    assert capsys.readouterr().out == "1 fail\n"


def test_the_example_with_blocks_runs(monkeypatch, capsys):
    real = inspect.signature(blocks.channel_values)

    def channel_values(*arguments, **settings):
        taken = real.bind(*arguments, **settings).arguments
        assert all(path.exists() for path in (taken["model"], taken["data"], *taken["known_trigger"]))
        assert taken["run"].epsilon is None
        players = (("a", 0), ("a", 1), ("b", 0))
        return ChannelValues(players, exact_estimate(lambda on: on @ np.array([1.0, 3.0, 2.0]), 3))

    monkeypatch.setattr(blocks, "channel_values", channel_values)
    (block,) = pages.blocks(TEXTS["fleet"], "python")
    exec(compile(block, "fleet.md", "exec"), {})
    assert capsys.readouterr().out == "a 1 3.000 ± 0.000\nb 0 2.000 ± 0.000\na 0 1.000 ± 0.000\n"


def test_an_operator_is_added_as_the_page_says(monkeypatch, tested_like_the_others):
    from derivative import Case, check_case

    monkeypatch.setitem(GRADIENT_RULES, ("", "Asinh"), [])
    case = example("An operator")["CASE"]
    assert isinstance(case, Case)
    check_case(case, case.opset)


def test_a_family_is_added_as_the_page_says(monkeypatch):
    banded = example("A trigger family")["banded"]
    family = banded(12, 10, 4)
    assert family.masks.sum(axis=(1, 2, 3)).tolist() == [40, 40, 40]
    rng = np.random.default_rng(0)
    paints = family.starts(np.arange(3), 3, rng)
    for _ in range(3):
        gradient = rng.normal(size=paints.shape)
        moved = family.move(paints, family.masks, gradient, 0.3)
        assert ((moved - paints) * gradient).sum() < 0
        assert moved.min() >= 0
        assert moved.max() <= 255
        assert (moved[np.broadcast_to(family.masks == 0, moved.shape)] == 0).all()
        paints = moved
    monkeypatch.setattr(
        search,
        "whole_picture",
        lambda height, width, _: (*families.whole_picture(height, width, 3), banded(height, width, 4)),
    )
    assert "banded" in search.SearchSettings().families(np.zeros((1, 12, 10, 3), np.float32), 10)


def test_a_format_is_added_as_the_page_says(monkeypatch, tested_like_the_others):
    from judged import JUDGED

    monkeypatch.setitem(FORMATS, "line", FORMATS["md"])  # so that the example's own line is taken back
    example("A report format")
    made = {name: FORMATS["line"](record, judgement) for name, (record, judgement) in JUDGED.items()}
    assert {text.split()[0] for text in made.values()} == {"pass", "fail", "inconclusive"}
    assert all(text.count("\n") == 1 and "\x1b" not in text for text in made.values())


def test_an_estimator_is_added_as_the_page_says(tested_like_the_others):
    from closed_form_games import additive, random_game

    rotated = example("An estimator")["rotated"]
    game = additive(np.array([1.0, -2.0, 0.5, 4.0]))
    np.testing.assert_allclose(
        rotated(game, 4, rounds=2, rng=np.random.default_rng(0)).run().values, [1, -2, 0.5, 4], atol=1e-12
    )
    rough = random_game(4, seed=1)
    found = rotated(rough, 4, rounds=200, rng=np.random.default_rng(2)).run()
    assert found.estimator == "rotated"
    assert (np.abs(found.values - exact_values(rough, 4)) <= 4 * found.standard_errors + 1e-9).all()


def test_command_and_exit_code_tables_are_complete():
    assert [shlex.split(row[0].strip("`"))[1] for row in rows(TEXTS["cli"], "command")] == list(shapprune.commands)
    codes = {exits.COULD_NOT_RUN, exits.INTERRUPTED, *exits.VERDICTS.values()}
    for page in ("README", "verdicts"):
        assert {int(row[0]) for row in rows(TEXTS[page], "exit code")} == codes


def test_choices_are_listed_completely():
    def first_cells(page: str, header: str) -> set[str]:
        return {re.findall(r"`([a-z-]+)`", row[0])[0] for row in rows(TEXTS[page], header)}

    assert first_cells("estimators", "`--estimator`") == set(ESTIMATORS)
    assert first_cells("estimators", "`--value`") == set(VALUES)
    assert first_cells("reports", "format") == set(REPORT_FORMATS)


def test_report_fields_exist():
    named = [name for row in rows(TEXTS["reports"], "field") for name in re.findall(r"`([a-z_.0-9]+)`", row[0])]
    assert len(named) > 15
    assert [n for n in named if not _field(n)] == []
    assert not _field("model.sha512")
    assert not _field("verdicts")


def _field(dotted: str) -> bool:
    record: object = audit_record()
    for name in dotted.split("."):
        if name not in type(record).model_fields:
            return False
        record = getattr(record, name)
    return True


def test_every_dependency_has_a_reason():
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[^A-Za-z0-9_-]", d)[0] for d in project["dependencies"]}
    assert {row[0] for row in rows(TEXTS["contributing"], "package")} == names
    assert {row[0] for row in rows(TEXTS["contributing"], "extra")} == set(project["optional-dependencies"])


@pytest.mark.parametrize("page", ["README", "tutorial"])
def test_the_demo_capture_looks_like_the_demo(page):
    capture = pages.part(TEXTS[page], "demo")
    for words in ("$ shapprune sanitize backdoored.onnx", "$ shapprune verify backdoored.onnx", "Was it true?"):
        assert words in capture
    source = Path(demo.__file__).read_text()
    for line in re.findall(r"^\$ (shapprune (?:sanitize|verify) .*)$", capture, re.MULTILINE):
        assert line in source
        assert not refused(shlex.split(line)[1:])


def test_a_capture_keeps_what_counts_and_marks_its_cuts():
    output = (
        "$ shapprune sanitize a\nFAIL  \n\nFiles\n  x\n\n"
        "$ shapprune verify b\nPASS\n\nTriggers found in b\n\nWas it true?\n ACC"
    )
    kept = ["$ shapprune demo", "$ shapprune sanitize a", "FAIL", "", "[...]", "", "$ shapprune verify b", "PASS", "",
            "[...]", "", "Was it true?", " ACC"]  # fmt: skip
    assert pages.capture(output, pages.LONG).splitlines() == ["```text", *kept, "```"]


def test_limits_named_in_the_text_are_those_of_the_code():
    assert f"more than {demo.MAX_TRUE_ASR:.0%} of the".replace("%", " %") in " ".join(TEXTS["tutorial"].split())
    assert f"more than {100 * demo.MAX_TRUE_LOSS:.0f} points of accuracy" in TEXTS["tutorial"]
    assert f"`--clean-budget`, {100 * RunOptions().clean_budget:.0f} points" in TEXTS["verdicts"]
    assert f'`schema_version` | "{AuditRecord.model_fields["schema_version"].default}"' in TEXTS["reports"]
    assert f"\n## {onnx_shapprune.__version__}, schema " in TEXTS["changelog"]
    assert f"  sha256 {load_policy(None).sha256}\n" in TEXTS["gate"]


NUMBERS = {3: "three", 5: "five", 8: "eight"}


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("verdicts", f"a *p-value* of at most {detect.NAMED:g}"),
        ("verdicts", f"Its p-value lies between {detect.NAMED:g} and {detect.DOUBT:g}"),
        ("verdicts", f"With fewer than {NUMBERS[detect.MOVED_ENOUGH]} such pictures"),
        ("verdicts", f"at least {NUMBERS[detect.FEWEST_MODELS]} *different* models"),
        ("verdicts", f"made on classifiers of {FEW.classes[0]} to {FEW.classes[1]} classes and pictures of "
                     f"{FEW.pixels[0]} to {FEW.pixels[1]} pixels, and of {PACKAGED.classes[0]} to "
                     f"{CROWD.classes[1]} classes and {PACKAGED.pixels[0]} to {PACKAGED.pixels[1]} pixels"),
        ("verdicts", f"up to {CROWD.classes[0] - 1} also {LARGE.pixels[0]} to {LARGE.pixels[1]} pixels"),
        ("verdicts", f"in networks of up to {relations.RelationSettings().classes} classes: patches that move one source"),
        ("verdicts", f"in networks of up to {relations.RelationSettings().mapped}: patches, blended"),
        ("verdicts", f"(all-to-all: up to {relations.RelationSettings().shifts} further, or back"),
        ("verdicts", f"Networks above {effort.THRIFTY_ABOVE // 10**6} million multiply-adds get fewer steps"),
        ("verdicts", f"Above {search.SearchSettings().most_classes} classes, a coarse search of all of them"),
        ("method", f"A goal is named at a p-value of {detect.NAMED:g}. A second goal needs {detect.SECOND:.4f}"),
        ("method", f"Up to {detect.DOUBT:g} a class that is not named is *suspicious*"),
        ("method", f"where fewer than {NUMBERS[detect.MOVED_ENOUGH]} pictures could show the trigger"),
        ("method", f"({search.SearchSettings().patch_classes} at most, "),
        ("method", f"it is {prune.RIVAL_LEAD:g} times above what the same search finds for the other classes"),
        ("method", f"estimated in {NUMBERS[prune.FOLDS]} folds"),
        ("method", "At most 1 % of all units are switched off, or 24 in a small network."),
        ("gate", f"at most {prune.KNOWN_ALIVE:.1%}"),
    ],
)  # fmt: skip
def test_numbers_that_decide_are_those_of_the_code(page, words):
    assert words in " ".join(TEXTS[page].split())


def test_the_limit_of_units_is_as_the_pages_say():
    assert [RunOptions().unit_limit(total) for total in (100, 2400, 10_000)] == [24, 24, 100]
    assert [RunOptions(max_units=share).unit_limit(199) for share in (0.01, 0.001, 0.5)] == [1, 1, 99]


def test_links_of_the_readme_and_the_pages_that_github_shows_lead_somewhere():
    for path in (pages.README, *sorted((pages.ROOT / ".github").glob("*.md"))):
        targets = re.findall(r"\]\(((?!https?:)[^)#]+)\)", path.read_text(encoding="utf-8"))
        assert targets
        assert [t for t in targets if not (path.parent / t).exists()] == []


def test_links_of_the_pages_lead_somewhere():
    for page, text in TEXTS.items():
        for target, anchor in re.findall(r"\]\(([a-z/-]+\.(?:md|png)|)(?:#([a-z0-9-]+))?\)", text):
            if page != "README":
                assert (pages.PAGES / (target or f"{page}.md")).exists(), (page, target)
                headings = re.findall(r"^#+ (.+)$", TEXTS.get(target.removesuffix(".md") or page, ""), re.MULTILINE)
                assert not anchor or anchor in {_anchor(h) for h in headings}, (page, target, anchor)


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9-]", "", heading.lower().replace(" ", "-"))


def test_the_start_page_lists_every_page_once():
    assert sorted([*docs.pages(), docs.START]) == sorted(TEXTS.keys() - {"README"})
    assert len(re.findall(docs.ROW, TEXTS["index"])) == len(docs.pages())


def test_the_menu_of_the_site_has_every_page_in_the_same_order():
    settings = yaml.safe_load((PACKAGE / "docs" / "mkdocs.yml").read_text())
    in_menu = [page for group in settings["nav"][1:] for pages_ in group.values() for page in pages_]
    assert in_menu == [f"{name}.md" for name in docs.pages()]


def test_every_page_begins_with_its_title():
    assert [page for page, text in TEXTS.items() if not re.match(r"# \S.*\n\n\S", text)] == []


def test_the_rooms_are_those_of_the_package_in_the_order_of_imports():
    named = [row[0].strip("`") for row in rows(TEXTS["architecture"], "room")]
    assert named == ORDER


def test_the_tour_names_every_room_that_an_audit_enters():
    tour = TEXTS["architecture"].partition("\n## A tour\n")[2].partition("\n## ")[0]
    named = {
        path.partition("/")[0].removesuffix(".py") for path in re.findall(r"`([a-z_]+(?:/[a-z_/.]*|[.]py))`", tour)
    }
    code = "import sys, onnx_shapprune.cli.audit as a, onnx_shapprune.commands.audit as b; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    entered = {name.split(".")[1] for name in loaded if name.startswith("onnx_shapprune.")}
    assert entered - {"version", "errors", "sample"} <= named  # the demo, which has the sample, is a command too
    assert named <= set(ORDER)


def test_files_that_the_pages_name_exist():
    named = {path for text in TEXTS.values() for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]+[.]py)`", text)}
    assert len(named) > 15
    assert {p for p in named if not (PACKAGE / p).exists() and not (pages.ROOT / p).exists()} == set()


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((pages.ROOT / "CITATION.cff").read_text())
    assert citation["version"] == onnx_shapprune.__version__
    assert citation["preferred-citation"]["title"] in TEXTS["README"]


def test_ci_finds_the_test_command():
    script = (pages.ROOT / ".ci" / "run").read_text()
    (line,) = [li for li in script.splitlines() if li.startswith("test_command=")]
    shown = subprocess.run(
        ["bash", "-c", f'{line}; echo "$test_command"'], cwd=pages.ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip().endswith(".venv/bin/python -m pytest")
    assert shown.stdout.count("\n") == 1


def test_ci_installs_the_wheel_where_no_checkout_helps():
    assert '.ci/wheel "$ci/bin/python"' in (pages.ROOT / ".ci" / "run").read_text()
    script = (pages.ROOT / ".ci" / "wheel").read_text()
    assert script.index('cd "$work"') < script.index("shapprune --version") < script.index("shapprune inspect")


def test_ci_builds_the_site_and_hears_its_warnings():
    (line,) = [li for li in (pages.ROOT / ".ci" / "run").read_text().splitlines() if "mkdocs" in li]
    words = shlex.split(line)
    assert {"build", "--strict"} <= set(words)
    assert "--quiet" not in words, "mkdocs counts no warning that it does not print"
    assert (pages.ROOT / words[words.index("--config-file") + 1]).samefile(PACKAGE / "docs" / "mkdocs.yml")
