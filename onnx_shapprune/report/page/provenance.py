"""The file itself, and what is needed to run it again."""

import json
import shlex
from collections.abc import Sequence

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.record.audit import AuditRecord
from onnx_shapprune.record.parts import FileDigest
from onnx_shapprune.report.numbers import count
from onnx_shapprune.report.page.markup import Html, join, tag
from onnx_shapprune.report.page.tables import Cell, Section, bullets, code, pairs, section, table
from onnx_shapprune.report.subject import original, seconds
from onnx_shapprune.report.text import json_text

DIGESTS = ("File", "#Bytes", "sha256")


def about_file(record: AuditRecord) -> Section:
    """Graph facts of the audited file."""
    model = record.model
    shape = " x ".join(map(str, model.input_shape))
    return section(
        "file",
        "The file",
        "What the audited graph is.",
        pairs(
            [
                ("Producer", model.producer or "not said"),
                ("Opset", str(model.opset)),
                ("Input", tag("span", code(model.input), f" {shape}, {model.layout}")),
                ("Output", tag("span", code(model.output), f" {model.classes:,} classes")),
                ("Parameters", f"{model.parameters:,}"),
                ("Channels", f"{record.units.total:,} in {count(record.units.layers, 'layer')}"),
                ("Working copy", f"differs from the file by at most {model.copy_difference:.1e} in the logits"),
            ]
        ),
        bullets([f"{f.rule} {f.text}".strip() for f in record.findings]),
    )


def reproduce(record: Record, judgement: Judgement) -> Section:
    """Command, settings, environment, digests, times, and the record itself."""
    e = record.environment
    environment: list[tuple[str, Cell]] = [
        ("shapprune", e.onnx_shapprune),
        ("Python", e.python),
        ("onnx", e.onnx),
        ("onnxruntime", e.onnxruntime),
        ("numpy", e.numpy),
        ("Platform", e.platform),
        ("Device", f"{e.device}, {', '.join(e.providers)}"),
        ("Threads", str(e.threads)),
        ("Seed", str(record.seed)),
    ]
    settings = {**record.settings, **(record.preprocessing if isinstance(record, AuditRecord) else {})}
    files = [*judged_files(record), *([before] if (before := original(record)) else [])]
    made = record.artifacts if isinstance(record, AuditRecord) else ()
    times = [(name, f"{s:.1f} s") for name, s in record.seconds.items()]
    return section(
        "reproduce",
        "Reproduce",
        "The same command on the same machine with the same versions gives the same record on a CPU.",
        tag("pre", tag("code", shlex.join(record.command))) if record.command else None,
        tag("h3", "Environment"),
        pairs(environment),
        tag("h3", "Digests"),
        table(
            "Digests",
            DIGESTS,
            [_digest(f) for f in files]
            + ([["pictures", "", code(record.data.digest)]] if record.data else [])
            + [[f"policy {judgement.policy}", "", code(judgement.policy_sha256)]],
        ),
        _folded(count(len(made), "artifact"), DIGESTS, [_digest(f) for f in made]),
        _folded("Settings", ("Setting", "Value"), [[k, json.dumps(v)] for k, v in settings.items()]),
        _folded(f"Times, {seconds(record):.1f} s in all", ("Stage", "Time"), [[k, v] for k, v in times]),
        tag(
            "p",
            "This page holds the whole record and the judgement as JSON, in its last two elements, ",
            code("script#record"),
            " and ",
            code("script#judgement"),
            ". They are data; nothing runs.",
            class_="small data",
        ),
    )


def embedded(record: Record, judgement: Judgement) -> Html:
    """Record and judgement as inert data: nothing in it can end the element or begin another."""
    return join(
        Html(f'<script type="application/json" id="{name}">{_inert(json_text(part))}</script>\n')
        for name, part in (("record", record), ("judgement", judgement))
    )


def _inert(text: str) -> str:
    compact = json.dumps(json.loads(text), separators=(",", ":"))
    return compact.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _digest(file: FileDigest) -> list[Cell]:
    return [file.name, f"{file.size:,}", code(file.sha256)]


def _folded(name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Html | None:
    return tag("details", tag("summary", name), table(name, columns, rows)) if rows else None
