"""GitLab code quality, for the widget of a merge request. It knows no waivers: waived findings, and those that were
there before, are shown as "info".
"""

import json

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.report.formats.annotations import annotations
from onnx_shapprune.report.formats.sarif import fingerprint
from onnx_shapprune.report.subject import shown_path
from onnx_shapprune.report.text import plain

SEVERITIES = {"critical": "blocker", "high": "critical", "medium": "major", "low": "minor", "info": "info"}


def gitlab(record: Record, judgement: Judgement) -> str:
    """A list of issues, each with a fingerprint of its own."""
    model = judged_files(record)[0]
    issues = [
        {
            "description": a.text,
            "check_name": f"onnx-shapprune/{a.rule}",
            "fingerprint": fingerprint(shown_path(model), a.rule, a.about, number),
            "severity": SEVERITIES[a.severity],
            "location": {"path": plain(shown_path(model), limit=500), "lines": {"begin": 1}},
        }
        for number, a in enumerate(annotations(judgement))
    ]
    return json.dumps(issues, indent=2) + "\n"
