"""The page by itself: whole, inert, and without a string that is more than text; test_browser.py opens it."""

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from judged import HOSTILE, JUDGED, judged
from record_samples import PNG, audit_record, class_part, trigger_part

from onnx_shapprune.pictures.files import decoded_png, png_bytes
from onnx_shapprune.record.audit import AttackPart, AuditRecord, UnitsPart, UnitValue
from onnx_shapprune.record.parts import UnitRef
from onnx_shapprune.report.page import page
from onnx_shapprune.report.page.charts import Axis, Row, Series, curve, row_chart
from onnx_shapprune.report.page.closeup import GREY, closeup
from onnx_shapprune.report.page.gallery import _size
from onnx_shapprune.report.page.heat import heat, level
from onnx_shapprune.report.page.markup import Html, tag
from onnx_shapprune.report.page.verdict import sentence
from onnx_shapprune.report.text import plain

every = pytest.mark.parametrize("name", JUDGED)
EMPTY = {"meta", "link", "img"}


class Read(HTMLParser):
    """Elements with their attributes, the text of each, and whether all are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in EMPTY:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(text)

    def of(self, name):
        return [attributes for element, attributes in self.elements if element == name]


def read(name: str) -> Read:
    return Read(page(*JUDGED[name]))


@every
def test_the_page_is_whole(name):
    found = read(name)
    assert found.open == []
    assert len(found.of("h1")) == len(found.of("main")) == len(found.of("nav")) == 1
    assert found.of("html")[0]["lang"] == "en"
    ids = [a["id"] for _, a in found.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    named = [i for _, a in found.elements for i in (a.get("aria-labelledby") or "").split()]
    assert set(named) <= set(ids)
    assert {a["href"].removeprefix("#") for a in found.of("a")} <= set(ids)
    for svg in found.of("svg"):
        assert svg.get("role") == "img" or svg.get("aria-hidden") == "true"
    assert all(image["alt"] for image in found.of("img"))


@every
def test_nothing_in_it_runs_or_is_fetched(name):
    found = read(name)
    assert [a["type"] for a in found.of("script")] == ["application/json"] * 2
    assert not {n for n, _ in found.elements} & {
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "video",
        "audio",
        "image",
        "use",
    }
    for _, attributes in found.elements:
        assert not [a for a in attributes if a.startswith("on") or a in ("style", "srcset", "formaction")]
        for place in ("src", "href"):
            assert (attributes.get(place) or "#").startswith(("data:image/png;base64,", "data:,", "#"))


@every
def test_the_policy_of_the_page_allows_its_style_and_nothing_else(name):
    text = page(*JUDGED[name])
    (policy,) = [m["content"] for m in Read(text).of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert f"style-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert "url(" not in style
    assert "@import" not in style


@every
def test_it_holds_the_record_and_the_judgement(name):
    (record, judgement), text = JUDGED[name], page(*JUDGED[name])
    for ident, part in (("record", record), ("judgement", judgement)):
        found = json.loads(re.search(rf'<script type="application/json" id="{ident}">(.*?)</script>', text)[1])
        assert found["verdict"] == part.verdict
        if "hostile" not in name:
            assert type(part).model_validate(found) == part


@every
def test_it_says_the_verdict_in_words_and_what_it_does_not_cover(name):
    judgement, found = JUDGED[name][1], read(name)
    words = " ".join(t for texts in found.texts.values() for t in texts)
    assert judgement.verdict.upper() in words
    assert "No verdict is a certificate" in words
    assert judgement.policy_sha256 in words
    for check in judgement.checks:
        assert check.name in words


def test_the_sentence_is_true_of_what_was_found():
    record, judgement = JUDGED["fail"]
    lax = judgement.model_copy(update={"verdict": "pass", "findings": ()})
    sentences = {
        "pass": "no trigger that stands out", "fail": "sends pictures of all classes to class 3",
        "repaired": "repaired copy of", "waived": "people have accepted 1 finding",
        "inconclusive": "Do not treat it as clean", "verify": "This copy of",
    }  # fmt: skip
    for name, words in sentences.items():
        assert words in sentence(*JUDGED[name]), name
    assert "although the audit itself says fail" in sentence(record, lax)


def test_hostile_strings_are_text():
    words = [t for texts in read("hostile fail").texts.values() for t in texts]
    shown = plain(HOSTILE)
    assert sum(shown in w for w in words) > 20
    assert "<script>alert" in shown


def test_a_class_name_is_shown_as_it_is():
    name = '<img src=x onerror="document.title=1">'
    record = audit_record(repair="not_tried")
    record = record.model_copy(update={"model": record.model.model_copy(update={"class_names": (name,) * 10})})
    found = Read(page(*judged(record)))
    assert f"All classes to class 3 {name} " in found.texts["h3"]
    assert len(found.of("img")) == 7, "three in the verdict, four in the gallery"


def large() -> AuditRecord:
    """43 classes, 30 channels, and as many bytes of pictures as a record may hold."""
    units = tuple(
        UnitValue(layer=f"/layer{i}/conv{i}/Conv", channel=i, value=0.1, standard_error=0.01, interval=(0.0, 0.2),
                  backdoor=0.1, clean=0.1)
        for i in range(30)
    )  # fmt: skip
    record = audit_record(classes=43)
    picture = trigger_part(3).model_copy(
        update={"mask": PNG[:44] + "A" * 45_000, "pattern": PNG[:44] + "A" * 45_000, "tried": ()}
    )
    return record.model_copy(
        update={
            "classes": tuple(class_part(i, suspicious=i == 3) for i in range(43)), "triggers": (picture,) * 4,
            "units": record.units.model_copy(update={"ranked": units}),
        }
    )  # fmt: skip


def test_it_stays_under_a_megabyte_and_draws_the_classes_that_count():
    text = page(*judged(large()))
    assert len(text.encode()) < 1_000_000
    (scores,) = re.findall(r'<svg class="chart"[^>]*scores-title.*?</svg>', text)
    assert scores.count('class="bar') == 24
    assert "target, 1e-04" in scores
    assert text.count("class-42") > 1


def test_markup_escapes_what_is_not_markup():
    assert tag("p", "<b>", Html("<i>"), None, class_='"x"', hidden=False) == '<p class="&quot;x&quot;">&lt;b&gt;<i></p>'
    assert tag("img", alt="a\x1bb") == '<img alt="ab">'


def test_marks_lie_where_their_numbers_are():
    axis = Axis(0.0, 10.0, ((5.0, "five"),))
    rows = [Row(name="a", value=0.0, text="0"), Row(name="b", value=10.0, text="10", low=5.0, high=10.0)]
    svg = row_chart("t", "title", "words", rows, axis)
    left, right = (float(x) for x in re.findall(r'<circle cx="([\d.]+)%"', svg))
    (tick,) = (float(x) for x in re.findall(r'<line x1="([\d.]+)%"[^>]*class="grid"', svg))
    begin, end = (
        float(x) for x in re.search(r'<line x1="([\d.]+)%"[^>]*x2="([\d.]+)%"[^>]*class="range"', svg).groups()
    )
    assert left < tick == begin < end == right < 100
    assert tick == pytest.approx((left + right) / 2, abs=0.01)


def test_a_logarithmic_axis_and_its_ends():
    axis = Axis(1.0, 100.0, (), log=True)
    assert [axis.share(v) for v in (1, 10, 100, 1000, 0)] == [0, 0.5, 1, 1, 0]


def test_names_at_the_end_of_a_curve_do_not_lie_on_each_other():
    series = [Series(name=n, points=((0.0, 1.0), (4.0, 0.5)), style="first") for n in "abc"]
    svg = curve("t", "title", "words", series, chosen=4, words="chosen")
    heights = [float(y) for y in re.findall(r'y="([\d.]+)" class="series', svg)]
    assert len(heights) == 3
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 15


def test_pictures_are_drawn_at_a_whole_multiple_of_their_size():
    assert _size(trigger_part(3).mask) == (96, 96)
    assert _size("no base64!") is None


def words_of(record: AuditRecord) -> str:
    """All text of a record's page, outside the data that it carries."""
    texts = Read(page(*judged(record))).texts
    return " ".join(" ".join(t for name, said in texts.items() if name != "script" for t in said).split())


def test_the_repair_is_told_by_its_method():
    record = audit_record()
    both = words_of(record)
    assert "In rounds, units are switched off, and layers get other weights; after each, an adversary" in both
    for words in ("/fc/Gemm", "0.0435", "97 % of its lead is gone", "over channels off"):
        assert words in both
    rounds = tuple(r.model_copy(update={"off": 0, "strength": 3.0}) for r in record.repair.rounds)
    part = record.repair.model_copy(update={"method": "realign", "rounds": rounds})
    units = record.units.model_copy(update={"off": ()})
    alone = words_of(record.model_copy(update={"repair": part, "units": units}))
    assert "In rounds, layers get other weights, and no unit is switched off; after each" in alone
    assert "over rounds" in alone
    assert "after round 2" in alone


def box(text: str) -> str:
    """The verdict's part of a page."""
    return text[text.index('<div class="verdict ') : text.index('<section class="now"')]


def test_the_verdict_shows_the_trigger_large():
    for name, clean in (("fail", "Without: "), ("repaired", "Without: "), ("not repaired", "Without: ")):
        found = Read(box(page(*JUDGED[name])))
        assert [image["alt"] for image in found.of("img")] == [
            "The trigger alone, enlarged: square patch",
            "A picture without the trigger: the model says class 0 class-0",
            "The same picture with the trigger: the model says class 3 class-3",
        ]
        assert {image["width"] for image in found.of("img")} == {"168"}
        assert clean in found.texts["span"]
    for name in ("pass", "inconclusive", "verify", "bare"):
        assert "<img" not in box(page(*JUDGED[name]))


def test_a_suspicion_shows_its_trigger_too():
    record = audit_record(verdict="inconclusive", repair="not_tried")
    attack = AttackPart(kind="all-to-one", targets=(1,), p_value=0.02)
    text = box(page(*judged(record.model_copy(update={"suspects": (attack,)}))))
    assert len(Read(text).of("img")) == 3
    assert ">suspicious<" in text
    assert "P-value 0.02 (named from 0.01 down" in text


def test_a_trigger_is_cut_out_where_it_is_small():
    picture = np.zeros((28, 28, 1))
    mask, pattern = picture.copy(), picture + 100
    mask[3:7, 20:26] = 255
    pattern[3:7, 20:26] = 250
    parts = [base64.b64encode(png_bytes(x, min_height=1)).decode() for x in (mask, pattern)]
    trigger = trigger_part(3).model_copy(update={"mask": parts[0], "pattern": parts[1]})
    cut = decoded_png(base64.b64decode(closeup(trigger)), max_edge=28)
    assert cut.shape == (8, 8, 3), "six by four pixels, one around, made square"
    assert (cut[2:6, 1:7] == 250).all()
    assert (cut[0] == GREY).all()
    whole = trigger.model_copy(update={"mask": base64.b64encode(png_bytes(picture + 255, min_height=1)).decode()})
    assert decoded_png(base64.b64decode(closeup(whole)), max_edge=28).shape == (28, 28, 3)
    for odd in ({"mask": "no base64!"}, {"mask": PNG}, {"added": True}, {"warps": True}):
        assert closeup(trigger.model_copy(update=odd)) == parts[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pass", "shapprune gate report.json --model model.onnx"),
        ("fail", "shapprune sanitize model.onnx --data pictures/ -o model.sanitized.onnx"),
        ("repaired", "shapprune verify model.onnx clean.onnx --data pictures/"),
        ("not repaired", "--unlabelled more_pictures/"),
        ("inconclusive", "shapprune docs verdicts"),
        ("waived", "See who accepted what"),
        ("verify fail", "shapprune rules OSP"),
    ],
)
def test_the_page_says_what_to_do_now(name, words):
    text = page(*JUDGED[name])
    now = text[text.index('id="now"') : text.index("<dl")]
    assert words in now


def test_the_repaired_file_stands_beside_the_first_one():
    text = page(*JUDGED["repaired"])
    table = text[text.index('aria-label="The file before and after the repair"') :].split("</table>")[0]
    rows = [re.sub("<[^>]*>", "|", row) for row in table.split("<tr>")[1:]]
    cells = [[c for c in row.split("|") if c] for row in rows]
    assert cells == [
        ["model.onnx", "clean.onnx"], ["Audit", "fail, class 3 class-3", "no class is named"],
        ["Strongest evidence, p", "1e-04", "-"], ["ACC", "90 %", "90 %"],
        ["ASR of the triggers found", "100 %", "2 %"], ["R-Acc", "0 %", "88 %"],
        ["Clean answers lost, estimated", "1.0 %"], ["Layers with other weights", "0", "2"], ["Units on", "560", "559"],
    ]  # fmt: skip
    assert text.index('id="rates"') < text.index('id="limits"'), "what came of it stands first"
    assert "before and after the repair" not in page(*JUDGED["fail"])


def test_colours_follow_the_values():
    assert [level(v, 0.5) for v in (-1.0, 0.0, 0.01, 0.125, 0.126, 0.5)] == [0, 0, 1, 1, 2, 4]
    assert level(-0.5, -0.1) == 0
    ranked = audit_record().units.ranked
    units = UnitsPart(total=9, layers=2, off=(UnitRef(layer="b", channel=1),), ranked=(
        ranked[0].model_copy(update={"layer": "a", "channel": 7, "value": 0.4}),
        ranked[0].model_copy(update={"layer": "b", "channel": 1, "value": 0.1}),
        ranked[0].model_copy(update={"layer": "a", "channel": 2, "value": -0.1}),
    ))  # fmt: skip
    text = heat(units)
    assert '<span class="cell h4" title="channel 7: +0.4000">7</span><span class="cell h0"' in text
    assert '<span class="cell h1 off" title="channel 1: +0.1000, switched off">1</span>' in text
    assert "3 channels that were estimated, of 9" in text
    assert "switched off" not in heat(units.model_copy(update={"off": ()}))


def test_a_comparison_shows_layers_with_other_weights():
    record, judgement = JUDGED["verify"]
    assert "Layers with other weights" in page(record, judgement)
    assert "Layers with other weights" not in page(record.model_copy(update={"realigned": ()}), judgement)
