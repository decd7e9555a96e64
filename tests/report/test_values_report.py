"""Channel values in words, as a table and as a picture."""

import csv
import io
from xml.etree import ElementTree

import pytest
from record_samples import values_record as record

from onnx_shapprune.record.audit import UnitsPart
from onnx_shapprune.report.heatmap import BINS, heatmap, shade
from onnx_shapprune.report.values import HEADER, SHOWN, values_csv, values_line, values_text

SVG = "{http://www.w3.org/2000/svg}"


def listed(text: str) -> list[list[str]]:
    """Words of the rows of channels."""
    return [row for row in map(str.split, text.splitlines()) if len(row) == 9 and row[5] == ".."]


def test_the_best_are_printed_and_all_where_asked_for():
    text = values_text(record())
    assert text.startswith("VALUES  ")
    assert f"top {SHOWN} of 133" in text
    assert "all 133 channels played" in text
    assert "seed 7" in text
    rows = listed(text)
    assert [row[1:3] for row in rows[:3]] == [["wide", "77"], ["conv", "2"], ["conv", "1"]]
    assert len(rows) == SHOWN
    whole = values_text(record(), details=True)
    assert [row[0] for row in listed(whole)] == [str(n) for n in range(1, 134)]
    assert "more: -v" in text
    assert "more: -v" not in whole


def test_one_line_names_the_best():
    assert values_line(record()).count("\n") == 1
    assert "wide:77 +0.5000; conv:2 +0.2000" in values_line(record())


def test_without_values_both_say_why():
    empty = record(reason="no class stands out", units=UnitsPart(total=133, layers=2), estimate=None)
    for text in (values_text(empty), values_line(empty)):
        assert text.startswith("NO VALUES")
        assert "no class stands out" in text


def test_the_table_has_every_channel_and_numbers_that_can_be_read_back():
    rows = list(csv.DictReader(io.StringIO(values_csv(record()))))
    assert tuple(rows[0]) == HEADER
    assert len(rows) == 133
    assert (rows[0]["layer"], rows[0]["channel"], float(rows[0]["value"])) == ("wide", "77", 0.5)
    assert float(rows[0]["high"]) - float(rows[0]["low"]) == pytest.approx(0.04)


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@x"])
def test_a_layer_is_no_formula(name):
    assert name not in {row[1] for row in csv.reader(io.StringIO(values_csv(record(name))))}
    assert f"'{name}" in values_csv(record(name))


def test_the_picture_has_a_row_for_each_layer_and_bins_wide_ones():
    root = ElementTree.fromstring(heatmap(record()))
    cells = [r for r in root.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]
    rows = {}
    for cell in cells:
        rows.setdefault(cell.get("y"), []).append(cell)
    assert [len(row) for row in rows.values()] == [3, BINS]
    (darkest,) = [c for c in cells if c.get("fill") == shade(1, 1)]
    assert "channel 77 +0.5000 (+0.4800 to +0.5200)" in darkest.find(f"{SVG}title").text
    covered = [c.find(f"{SVG}title").text.split(":")[0] for c in list(rows.values())[1]]
    assert covered[0] == "channels 0 to 1"
    assert covered[-1] == "channels 127 to 129"


def test_the_picture_leaves_out_who_did_not_play():
    some = record()
    part = some.units.model_copy(update={"ranked": tuple(u for u in some.units.ranked if u.layer == "conv")[:2]})
    root = ElementTree.fromstring(heatmap(some.model_copy(update={"units": part})))
    said = [t.text for t in root.iter(f"{SVG}title") if t.text.startswith("channel ")]
    assert len(said) == 3
    assert said[0] == "channel 0: did not play"


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'a"b', "\x1b[2J", "\u202elayer", "&amp;"])
def test_the_picture_of_a_hostile_layer_is_still_one(name):
    text = heatmap(record(name))
    assert len(list(ElementTree.fromstring(text).iter())) == len(list(ElementTree.fromstring(heatmap(record())).iter()))
    assert not {"\x1b", "\u202e"} & set(text)
    assert "<script" not in text


def test_colours_grow_darker():
    levels = [sum(int(shade(v, 1)[i : i + 2], 16) for i in (1, 3, 5)) for v in (0, 0.01, 0.3, 0.6, 1, 2)]
    assert levels == sorted(levels, reverse=True)
    assert shade(-1, 1) == shade(0, 1) == shade(1, 0)
