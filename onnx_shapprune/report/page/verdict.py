"""The first thing that is seen: the verdict, the trigger that speaks for it, large, and what to do now."""

import shlex

from onnx_shapprune.gate.evidence import Record
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.record.audit import AuditRecord, TriedPart, TriggerPart, VerifyRecord
from onnx_shapprune.report import outcome as outcomes
from onnx_shapprune.report.advice import what_now
from onnx_shapprune.report.attacks import evidence_words, trigger_of, trigger_words
from onnx_shapprune.report.numbers import count, percent
from onnx_shapprune.report.outcome import Outcome, outcome_of
from onnx_shapprune.report.page.closeup import closeup
from onnx_shapprune.report.page.gallery import picture, share
from onnx_shapprune.report.page.markup import Html, tag
from onnx_shapprune.report.page.tables import bullets
from onnx_shapprune.report.subject import FAMILIES, class_name

# A shape of its own for each verdict, drawn in a square of 24: the colour is not all that tells them apart.
ICONS = {
    "pass": ("M12 1.5a10.5 10.5 0 1 0 0 21a10.5 10.5 0 1 0 0-21z", "M7 12.5l3.4 3.4L17.2 8.8"),
    "fail": ("M7.6 1.5h8.8l6.1 6.1v8.8l-6.1 6.1H7.6l-6.1-6.1V7.6z", "M8 8l8 8M16 8l-8 8"),
    "inconclusive": ("M12 1l11 11-11 11L1 12z", "M9.3 9.4a2.8 2.8 0 1 1 4.1 2.5c-.9.5-1.4 1-1.4 2M12 16.7v.3"),
}
SAID: tuple[Outcome, ...] = ("pass", "fail", "inconclusive")  # that the verdict's own word says
LARGE = 168  # pixels that a picture is drawn up to
ABOUT_ATTACKS = ("OSP101 ", "OSP102 ", "OSP906 ")  # rules that say of an attack what its own words say
REASONS = 4  # that stand in the box; the decision has all


def banner(record: Record, judgement: Judgement) -> Html:
    """The verdict in one word and one sentence, the reasons, and the trigger behind it."""
    verdict, outcome = judgement.verdict, outcome_of(record, judgement.verdict)
    remark = tag("span", outcome, class_="remark") if outcome not in SAID else None
    word = tag("p", verdict.upper(), class_="word")
    reasons = _reasons(record, judgement, outcome)
    more = len(reasons) - REASONS
    said = [*reasons[:REASONS], *([f"and {count(more, 'reason')} more, under Decision"] if more > 0 else [])]
    head = tag("div", tag("div", word, remark), tag("p", sentence(record, judgement), class_="why"))
    return tag(
        "div",
        tag("div", icon(verdict), head, class_="head"),
        _trigger(record, outcome),
        bullets(said),
        class_=f"verdict {verdict}",
    )


def _reasons(record: Record, judgement: Judgement, outcome: Outcome) -> list[str]:
    """Why. Of an attack, what its trigger does and the number that decides come first, and what the policy says of the same
    attack is left to the decision.
    """
    if outcome not in ("fail", "suspicious", "not repaired", "dry run") or not (record.attacks or record.suspects):
        return [r for r in judgement.reasons if r]
    attack = (*record.attacks, *record.suspects)[0]
    first = [w for w in (trigger_words(record, attack), evidence_words(record, attack)) if w]
    return [f"{w[:1].upper()}{w[1:]}." for w in first] + [
        r for r in judgement.reasons if not r.startswith(ABOUT_ATTACKS)
    ]


def icon(verdict: str) -> Html:
    """The sign of a verdict, without words of its own."""
    outline, sign = ICONS[verdict]
    shapes = tag("path", d=outline, class_="shape"), tag("path", d=sign, class_="sign")
    return tag("svg", *shapes, class_=f"icon {verdict}", viewBox="0 0 24 24", aria_hidden="true", focusable="false")


def sentence(record: Record, judgement: Judgement) -> str:
    """What the verdict says about which file."""
    if judgement.verdict == "pass" and judgement.known:
        known = count(len(judgement.known), "finding")
        return f"The policy is met only because {known} stood in an earlier report too: see the baseline."
    if judgement.verdict == "pass" and judgement.suppressed:
        accepted = count(len(judgement.suppressed), "finding")
        return f"The policy is met only because people have accepted {accepted}: see the waivers."
    return outcomes.sentence(record, outcome_of(record, judgement.verdict))


def steps(record: Record, judgement: Judgement) -> Html:
    """What to do now: what helps most comes first, with the command where there is one."""
    rules = tuple(f.rule for f in judgement.findings if f.severity != "info")
    listed = [
        tag("li", s.text, tag("pre", tag("code", shlex.join(s.command))) if s.command else None)
        for s in what_now(record, outcome_of(record, judgement.verdict), rules)
    ]
    heading = tag("h2", "What to do now", id="now-heading")
    return tag("section", heading, tag("ol", listed), class_="now", id="now", aria_labelledby="now-heading")


def _trigger(record: Record, outcome: Outcome) -> Html | None:
    """The trigger of what was found first, and one picture without and with it; None where there is none to show."""
    attacks = (*record.attacks, *record.suspects)
    if not attacks or isinstance(record, VerifyRecord):
        return None
    trigger = trigger_of(record, attacks[0])
    if trigger is None:
        return None
    kind = FAMILIES.get(trigger.family, trigger.family)
    figures = [picture(closeup(trigger), f"The trigger: {kind}", f"The trigger alone, enlarged: {kind}", LARGE)]
    if tried := _telling(trigger):
        figures += _both(record, tried)
    note = _still_works(record) if outcome == "repaired" else None
    return tag("div", tag("div", figures, class_="large"), note, class_="shown")


def _telling(trigger: TriggerPart) -> TriedPart | None:
    """The first picture that the trigger moves, else the first one."""
    moved = (t for t in trigger.tried if t.applied_class in trigger.targets and t.clean_class != t.applied_class)
    return next(moved, trigger.tried[0] if trigger.tried else None)


def _both(record: AuditRecord, tried: TriedPart) -> list[Html]:
    before, after = (class_name(record, c) for c in (tried.clean_class, tried.applied_class))
    answers = [
        tag("span", "Without: ", tag("strong", before), ", ", share(tried.clean_probability)),
        tag("span", "With: ", tag("strong", after, class_="hot"), ", ", share(tried.applied_probability)),
    ]
    return [
        picture(tried.clean, answers[0], f"A picture without the trigger: the model says class {before}", LARGE),
        picture(tried.applied, answers[1], f"The same picture with the trigger: the model says class {after}", LARGE),
    ]


def _still_works(record: AuditRecord) -> Html | None:
    """What the triggers do to the repaired file."""
    after = record.after
    if after is None or after.asr is None:
        return None
    words = f"So {record.model.name} answered. The repaired file lets the triggers found move {percent(after.asr, 0)}"
    return tag("p", f"{words} of {count(after.triggered, 'picture')}.", class_="small")
