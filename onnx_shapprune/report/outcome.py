"""What a run came to, in one word and one sentence: the same on the terminal and on the page."""

from typing import Literal

from onnx_shapprune.gate.evidence import Record
from onnx_shapprune.record.audit import VerifyRecord
from onnx_shapprune.record.parts import Verdict
from onnx_shapprune.report.attacks import attack_words
from onnx_shapprune.report.subject import original

Outcome = Literal[
    "pass",
    "fail",
    "hostile",
    "suspicious",
    "inconclusive",
    "repaired",
    "dry run",
    "not repaired",
    "not met",
    "accepted",
]
BAD: tuple[Outcome, ...] = ("fail", "hostile", "dry run", "not repaired")
OPEN: tuple[Outcome, ...] = ("suspicious", "inconclusive")


def outcome_of(record: Record, policy: Verdict | None = None) -> Outcome:
    """What the run came to. policy: the verdict of a policy on it, which may be another one: "not met" where only the
    policy stands against the file, "accepted" where only the policy lets it pass.
    """
    own = _own(record)
    if policy == "pass":
        return "accepted" if own in (*BAD, *OPEN) else own
    if policy == "fail":
        return own if own in BAD else "not met"
    if policy == "inconclusive":
        return own if own in OPEN else "inconclusive"
    return own


def _own(record: Record) -> Outcome:
    if not isinstance(record, VerifyRecord):
        if record.repair.status == "repaired":
            return "repaired" if record.repair.output is not None else "dry run"
        if record.repair.status == "not_repaired":
            return "not repaired"
        if record.verdict == "fail" and not record.model.classes:  # refused before it was read
            return "hostile"
    if record.verdict == "inconclusive":
        return "suspicious" if record.suspects else "inconclusive"
    return record.verdict


def sentence(record: Record, outcome: Outcome) -> str:
    """What the outcome says about which file."""
    if isinstance(record, VerifyRecord) and outcome in ("pass", "fail"):
        if outcome == "pass":
            return f"This copy of {record.before_model.name} holds: no trigger stands out in it any more."
        return f"This copy of {record.before_model.name} does not hold: do not use it."
    before = original(record)
    said = {
        "pass": "The searches found no trigger that stands out.",
        "hostile": "The file is made to hurt whoever opens it: nothing of it ran.",
        "inconclusive": "Too little is known to say anything about this file. Do not treat it as clean.",
        "not met": f"This copy of {before.name} does not meet the policy."
        if before
        else "The policy is not met, although the audit itself found no backdoor.",
        "accepted": f"The policy is met, although the audit itself says {record.verdict}.",
    }
    if outcome in said:
        return said[outcome]
    found = "; ".join(attack_words(record, a) for a in (record.attacks or record.suspects)[:2])
    if outcome == "suspicious":
        return f"Something stands out, and not enough to be named: {found}. Do not treat the file as clean."
    if outcome == "fail":
        return f"A backdoor was found: {found}." if found else "A backdoor was found."
    name = before.name if before else record.model.name if not isinstance(record, VerifyRecord) else ""
    there = f"{name} is backdoored" + (f" ({found})" if found else "")
    return {
        "repaired": f"A repaired copy of {name} was written, and no trigger stands out in it any more.",
        "dry run": f"{there}, and can be repaired. Nothing was written.",
        "not repaired": f"{there}, and no repair that holds was found.",
    }[outcome]
