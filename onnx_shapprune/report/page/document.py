"""The sections in the order in which a reviewer asks, between a head that forbids the page everything it does not need."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.report.page import evidence, provenance, repair, summary, verdict
from onnx_shapprune.report.page.gallery import gallery
from onnx_shapprune.report.page.markup import Html, tag
from onnx_shapprune.report.page.tables import Section
from onnx_shapprune.report.subject import original


def page(record: Record, judgement: Judgement) -> str:
    """The whole document."""
    name = judged_files(record)[0].name
    sections = [s for s in _sections(record, judgement) if s is not None]
    return document(
        f"{judgement.verdict.upper()}: {name}",
        tag("a", "Skip to the decision", class_="skip", href="#decision"),
        tag(
            "header",
            tag("p", "shapprune backdoor audit", class_="kicker"),
            tag("h1", name),
            verdict.banner(record, judgement),
            verdict.steps(record, judgement),
            summary.facts(record, judgement),
        ),
        columns(sections),
        tag(
            "footer",
            tag(
                "p",
                f"Made by onnx-shapprune {record.environment.onnx_shapprune}. A graph viewer such as Netron "
                "shows where the layers named here lie.",
            ),
        ),
        provenance.embedded(record, judgement),
    )


def document(title: str, *content: Html) -> str:
    """A page of its own: it runs nothing, and fetches nothing."""
    return f'<!doctype html>\n<html lang="en">\n{_head(title)}\n{tag("body", *content)}\n</html>\n'


def _head(title: str) -> Html:
    style = (files("onnx_shapprune.report.page") / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        Html(f"<style>{style}</style>"),
    )


def columns(sections: Sequence[Section]) -> Html:
    """A list of contents, and the sections beside it."""
    links = [tag("li", tag("a", s.title, href=f"#{s.ident}")) for s in sections]
    nav = tag("nav", tag("ol", links), aria_label="Contents")
    return tag("div", nav, tag("main", [s.body for s in sections]), class_="columns")


def _sections(record: Record, judgement: Judgement) -> list[Section | None]:
    changed = "second file" if isinstance(record, VerifyRecord) else "file before the repair"
    of_file = f"Classes of the {changed}" if original(record) else "Classes"
    repaired = isinstance(record, AuditRecord) and record.after is not None
    first = [
        repair.rates(record) if repaired else None,
        summary.coverage(record, judgement),
        summary.before_repair(record),
        summary.waivers(judgement),
        summary.baseline(judgement),
        summary.decision(judgement),
    ]
    if isinstance(record, VerifyRecord):
        rest = [
            repair.changes(record),
            evidence.classes(record, of_file),
            evidence.claims(record),
            repair.rates(record),
        ]
    else:
        rest = [
            evidence.classes(record, of_file),
            gallery(record),
            evidence.claims(record),
            None if repaired else repair.rates(record),
            repair.channels(record),
            repair.repair(record),
            provenance.about_file(record),
        ]
    return [*first, *rest, provenance.reproduce(record, judgement)]
