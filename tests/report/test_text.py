"""Hostile strings become plain ones, and columns stay columns."""

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged import judged
from pydantic import BaseModel
from record_samples import audit_record

from onnx_shapprune.report.formats import FORMATS
from onnx_shapprune.report.layout import Column, Page
from onnx_shapprune.report.text import cells, fit, json_text, plain, wrap


@given(st.text(st.characters(), max_size=300))
def test_plain_is_one_printable_line(text):
    result = plain(text)
    assert len(result) <= 200
    assert not {unicodedata.category(c) for c in result} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    result.encode()


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[31mred\x1b]0;title\x07", "[31mred]0;title"),
        ("\x9b31m", "31m"),
        ("safe\u202etxt.exe", "safetxt.exe"),
        ("two\nlines\rand\ttabs", "two lines and tabs"),
        ("name\udcff", "name\ufffd"),
        ("Größe 測試", "Größe 測試"),
    ],
)
def test_plain_examples(hostile, harmless):
    assert plain(hostile) == harmless


def test_plain_caps_and_says_so():
    assert plain("a" * 201) == "a" * 199 + "…"
    assert plain("a" * 200) == "a" * 200
    assert plain("\x1b" * 5000 + "a").endswith("…")  # what was cut unseen is marked too


@given(st.text(max_size=40), st.integers(1, 30), st.booleans())
def test_fit_is_exactly_as_wide_as_asked(text, width, right):
    assert cells(fit(plain(text), width, right=right)) == width


def test_wide_characters_take_two_cells():
    assert cells("測試") == 4
    assert fit("測試", 3) == "測…"


@given(st.text(max_size=200), st.integers(20, 60))
def test_wrapped_lines_fit_and_lose_nothing(text, width):
    text = plain(text)
    lines = wrap(text, width, indent="  ")
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


RUNNERS = [
    "::notice::",
    "::stop-commands::x",
    "  ::error file=a::b",
    "##[set-output name=a]b",
    "a ##[error]b",
    "##vso[task]b",
]


@pytest.mark.parametrize("name", RUNNERS)
@pytest.mark.parametrize("colour", [False, True])
def test_no_name_becomes_a_command_of_a_ci_runner(name, colour):
    page = Page(60, colour=colour)
    page.headline("FAIL", "red", name)
    page.title(name)
    page.say(name, style="red")
    page.say(f"{'word ' * 11}{name}", bullet="-")
    page.pairs([(name, name)])
    page.table([Column(title=name, right=False)], [[name]], style=lambda row: "red")
    for line in page.text().splitlines():
        bare = re.sub(r"\x1b\[[0-9;]*m", "", line).strip()
        assert not bare.startswith("::")
        assert not re.search(r"##[a-z]*\[", bare)


@pytest.mark.parametrize("name", RUNNERS)
def test_json_holds_no_command_either(name):
    class Named(BaseModel):
        names: list[str]

    text = json_text(Named(names=[name]))
    assert json.loads(text) == {"names": [name]}
    assert "##[" not in text
    assert "##vso[" not in text


@pytest.mark.parametrize("char", ["\u3164", "\u115f", "\uffa0", "\u2800", "\u034f", "\ufe0f", "\U000e0101"])
def test_what_takes_no_ink_is_left_out(char):
    assert plain(f"a{char}b") == "ab"
    for name, form in FORMATS.items():
        record, judgement = judged(audit_record(repair="not_tried", name=f"m{char}.onnx", reason=char, layer=char))
        assert char not in form(record, judgement) or name == "json"


def test_json_is_ascii_and_refuses_nan():
    class Thing(BaseModel):
        name: str
        value: float

    text = json_text(Thing(name="\x9b31m\u202e", value=1.0))
    assert text.isascii()
    assert json.loads(text) == {"name": "\x9b31m\u202e", "value": 1.0}
    with pytest.raises(ValueError, match="JSON"):
        json_text(Thing.model_construct(name="a", value=float("nan")))
