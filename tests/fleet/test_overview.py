"""The worst first, nothing left out, and nothing of a hostile name anywhere."""

import csv
import html
import io
import json
import re
from html.parser import HTMLParser

import pytest

from onnx_shapprune.fleet.overview import overview_page
from onnx_shapprune.fleet.results import OUTCOMES, Result
from onnx_shapprune.fleet.summary import by_severity, summary_csv, summary_json, summary_line, summary_text, worst

SHA = "ab" * 32


def result(outcome: str, model: str = "", **more) -> Result:
    folder = "" if outcome in ("could not run", "not applicable") else SHA
    made = {
        "model": model or f"{outcome}.onnx",
        "sha256": SHA,
        "outcome": outcome,
        "folder": folder,
        "reasons": ("why",),
    }
    return Result(**(made | more))


ALL = [result(o) for o in reversed(OUTCOMES) if o != "not applicable"]


@pytest.mark.parametrize(
    ("outcomes", "whole"),
    [
        (("pass", "inconclusive", "could not run", "fail"), "fail"),
        (("pass", "inconclusive", "could not run"), "could not run"),
        (("inconclusive", "pass"), "inconclusive"),
        (("pass", "pass"), "pass"),
        ((), "could not run"),
        (("not applicable", "pass"), "pass"),
        (("not applicable", "inconclusive"), "inconclusive"),
        (("not applicable",), "not applicable"),
    ],
)
def test_the_worst_counts(outcomes, whole):
    assert worst([result(o) for o in outcomes]) == whole


def test_severity_then_score_then_name():
    mixed = [*ALL, result("fail", "z", score=9.0), result("fail", "a", score=9.0), result("pass", "b")]
    assert [r.model for r in by_severity(mixed)] == [
        "a", "z", "fail.onnx", "could not run.onnx", "inconclusive.onnx", "b", "pass.onnx",
    ]  # fmt: skip


def test_text_lists_what_has_not_passed_and_counts_the_rest():
    text = summary_text([*ALL, result("pass", same_as="x")], width=100)
    assert text.startswith("FAIL  5 models: 1 fail, 1 could not run, 1 inconclusive, 2 pass\n")
    assert "could not run.onnx" in text
    assert "pass.onnx" not in text
    assert "1 model listed twice" in text
    assert "and 30 more" in summary_text([result("fail", f"{i}") for i in range(80)])
    assert summary_line([result("pass")]) == "PASS  1 model: 1 pass\n"
    assert all(len(line) <= 80 for line in summary_text([result("fail", "long/" * 60)]).splitlines())


def test_json_and_csv_have_every_model():
    content = json.loads(summary_json(ALL))
    assert content["outcomes"] == {o: int(o != "not applicable") for o in OUTCOMES}
    assert [r["outcome"] for r in content["results"]] == [o for o in OUTCOMES if o != "not applicable"]
    rows = list(csv.DictReader(io.StringIO(summary_csv(ALL))))
    assert [r["outcome"] for r in rows] == [o for o in OUTCOMES if o != "not applicable"]
    assert [r["report"] for r in rows] == [f"{SHA}/report.json", "", f"{SHA}/report.json", f"{SHA}/report.json"]


HOSTILE = "=cmd|'/c calc'!A1 \x1b[31m</td><script>alert(1)</script>\u202e\n::error::x" + "y" * 10_000


def test_hostile_names():
    bad = result("fail", HOSTILE, reasons=(HOSTILE,), same_as=HOSTILE)
    (row,) = list(csv.DictReader(io.StringIO(summary_csv([bad]))))
    assert row["model"].startswith("'=cmd")
    assert row["same as"].startswith("'=cmd")
    for text in (summary_csv([bad]), summary_text([bad]), summary_json([bad]), overview_page([bad])):
        assert not {"\x1b", "\u202e"} & set(text)
        assert "\n::" not in text
    assert "<script" not in overview_page([bad])
    assert len(overview_page([bad])) - len(overview_page([result("fail")])) < 2000


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.links, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in ("meta", "link"):
            self.open.append(tag)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_links_every_report_in_order_and_runs_nothing():
    text = overview_page([*ALL, result("fail", "first.onnx", score=7.0, folder=f"{SHA}-12345678")])
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert "default-src 'none'" in html.unescape(text)
    assert page.links == [
        "data:,",
        "#fail",
        "#could-not-run",
        "#inconclusive",
        "#pass",
        f"{SHA}-12345678/report.html",
        *[f"{SHA}/report.html"] * 3,
    ]
    places = [text.index(f">{title}: ") for title in ("Failed", "Could not run", "Inconclusive", "Passed")]
    assert places == sorted(places)
    assert re.search(r"<td[^>]*><span>could not run\.onnx", text), "what has no report is no link"


def test_every_cell_says_what_it_is_on_a_narrow_screen():
    text = overview_page([result("fail", "a.onnx", reasons=("why", "and", "so"), score=4.0, target_classes=(7,))])
    for cell in (
        '<td data-label="Why">why; and 2 reasons more</td>', '<td data-label="Target">7</td>',
        '<td class="num" data-label="p">1e-04</td>', '<table class="stacked">',
    ):  # fmt: skip
        assert cell in text
    assert ">Repair<" not in text, "no column without a cell"
    assert ">Target<" not in overview_page([result("pass")])


def test_what_is_not_applicable_stands_apart():
    other = result("not applicable", "text.onnx", reasons=("not an image classifier: 2 inputs",))
    text = summary_text([*ALL, other])
    passed, apart = text.split("\nNot applicable: not audited, nothing is known\n")
    assert "text.onnx" not in passed
    assert "text.onnx" in apart
    assert "not an image classifier: 2 inputs" in apart
    page = overview_page([other, result("pass")])
    assert page.index("pass.onnx") < page.index("text.onnx")
    assert "Not applicable: 1" in page
    assert "Not passed" not in summary_text([other, result("pass")])
