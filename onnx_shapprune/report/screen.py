"""The first screen of a run: what came of it, about what, on which evidence, what is open, and what to do next.

Made for somebody who reads one screen and then acts; all tables stand in report/terminal.py.
"""

import shlex
from collections.abc import Sequence

from onnx_shapprune.gate.rejudged import levels_of
from onnx_shapprune.record.audit import AttackPart, AuditRecord, VerifyRecord
from onnx_shapprune.record.parts import Rates
from onnx_shapprune.report.advice import what_now, written_as
from onnx_shapprune.report.attacks import evidence_words, held_against, trigger_words
from onnx_shapprune.report.changes import METHODS
from onnx_shapprune.report.layout import Page
from onnx_shapprune.report.limits import KINDS_MISSED, left_open
from onnx_shapprune.report.numbers import count, percent, wilson
from onnx_shapprune.report.outcome import Outcome, outcome_of, sentence
from onnx_shapprune.report.subject import class_name, compared_with, unchecked
from onnx_shapprune.report.text import plain

Record = AuditRecord | VerifyRecord
REASONS = 3  # that are shown; the rest stands in the tables


def where_more_is(page: Page, record: Record) -> None:
    """Add what says how to see the rest: in what the run wrote already, where it wrote that."""
    shown, stored = (next(written_as(kind, record), None) for kind in ("html", "json"))
    page.blank()
    if shown:
        page.say(f"The triggers as pictures, and all tables: {plain(shown)}", style="dim")
    elif stored:
        page.say("The triggers as pictures, and all tables:", style="dim")
        page.paste(shlex.join(("shapprune", "report", stored, "-f", "html", "-o", "report.html")))
    else:
        page.say("-v: all tables; --report html=FILE: the triggers as pictures", style="dim")


def first_screen(page: Page, record: Record) -> None:
    """Add the screen behind a headline."""
    outcome = outcome_of(record)
    page.say(sentence(record, outcome))
    shown = _reasons(record, outcome)
    for reason in shown[:REASONS]:
        page.say(reason, bullet="-")
    if len(shown) > REASONS:
        page.say(f"and {count(len(shown) - REASONS, 'reason')} more: see -v", indent=4, style="dim")
    page.blank()
    page.pairs([(name, value) for name, value in _facts(record, outcome) if value])
    page.blank()
    for step in what_now(record, outcome):
        page.say(f"-> {step.text}", style="bold")
        if step.command:  # on a line of its own, however wide: it is there to be pasted
            page.paste(shlex.join(step.command))


def _reasons(record: Record, outcome: Outcome) -> Sequence[str]:
    """Why, where the sentence does not say it."""
    if isinstance(record, VerifyRecord):
        return record.reasons
    if outcome == "not repaired":
        return (record.repair.reason,)
    return () if record.attacks else record.reasons


def _facts(record: Record, outcome: Outcome) -> list[tuple[str, str]]:
    attacks = record.attacks or record.suspects
    rows: list[tuple[str, str]] = []
    for attack in attacks[:2]:
        rows.append(("target", _target(record, attack)))
        rows.append(("trigger", trigger_words(record, attack)))
        rows.append(("evidence", evidence_words(record, attack)))
    if not attacks and isinstance(record, AuditRecord):
        rows.append(("evidence", _of_the_whole(record)))
    if isinstance(record, AuditRecord):
        rows.append(("repair", _repair(record)))
    if record.after is not None:
        rows += [("before", _rates(record.before)), ("after", _rates(record.after))]
    rows.append(("pictures", _pictures(record)))
    rows.append(("compared", _compared(record)))
    rows.append(("not covered", " ".join((*left_open(record), f"{KINDS_MISSED[:1].upper()}{KINDS_MISSED[1:]}."))))
    return rows


def _target(record: Record, attack: AttackPart) -> str:
    if attack.kind == "all-to-all":
        return "every class has its own"
    return ", ".join(f"class {class_name(record, t)}" for t in attack.targets)


def _of_the_whole(record: AuditRecord) -> str:
    """The p-value of the model, all that was looked at counted."""
    if record.score is None:
        return ""
    return f"{held_against(min(1.0, 10**-record.score), levels_of(record))}, of the model as a whole"


def _repair(record: AuditRecord) -> str:
    part = record.repair
    if part.status == "not_tried" or part.method is None:
        return part.reason if part.status == "nothing_to_repair" else ""
    off, total = len(record.units.off), record.units.total
    done = [count(len(part.layers), "layer") + " with other weights"] if part.layers else []
    done += [f"{off} of {total:,} units off"] if off else []
    if record.data.drawn:
        cost = "; what it costs real pictures is not known without them"
    else:
        cost = f"; of unseen pictures about {percent(part.rounds[-1].clean_cost)} lost" if part.rounds else ""
    return (", ".join(done) or METHODS[part.method]) + cost


def _rates(rates: Rates) -> str:
    said = [] if rates.acc is None else [f"ACC {percent(rates.acc, 0)} of {count(rates.pictures, 'picture')}"]
    moved = [f"{name} {percent(x, 0)}" for name, x in (("ASR", rates.asr), ("R-Acc", rates.racc)) if x is not None]
    said += [f"{' and '.join(moved)} of {rates.triggered} with the triggers found"] if moved else []
    return ", ".join(said)


def _pictures(record: Record) -> str:
    if record.data is None or not record.data.pictures:
        return ""
    pictures, seen = record.data.pictures, count(record.data.classes_covered, "class")
    words = {
        "given": f"{pictures} of {seen}, labels given",
        "folder": f"{pictures} of {seen}, labels from folders",
        "model": f"{pictures} without labels, in which the model sees {seen}",
        "synthesised": f"{pictures} of {seen}, drawn out of the model, so that rates are no measurements",
    }[record.data.label_source]
    acc, number = record.before.acc, record.before.pictures
    if acc is None or unchecked(record):
        return f"{words}; preprocessing unchecked"
    low, high = wilson(acc, number)
    return f"{words}; {percent(acc, 0)} right ({100 * low:.0f} to {percent(high, 0)})"


def _compared(record: Record) -> str:
    whole = compared_with(record)
    if not whole:
        return ""
    digest = f" (sha256 {record.calibration_sha256[:12]})" if record.calibration_sha256 else ""
    return plain(record.calibration.partition(" (")[0], limit=120) + digest
