"""One screen that can be acted on: what it says for each outcome, and that it says it in one screen."""

import shlex

import pytest
from judged import JUDGED, judged
from record_samples import audit_record, verify_record

from onnx_shapprune.invert.families import whole_picture
from onnx_shapprune.record.audit import AttackPart, AuditRecord, VerifyRecord
from onnx_shapprune.record.parts import FindingPart
from onnx_shapprune.report.advice import OF_THE_INPUT, Step, what_now
from onnx_shapprune.report.attacks import trigger_words
from onnx_shapprune.report.outcome import outcome_of, sentence
from onnx_shapprune.report.page import page
from onnx_shapprune.report.subject import WHOLE
from onnx_shapprune.report.terminal import audit_text, verify_text

SCREEN = 30  # lines
RULE = ("shapprune", "rules", "OSP202")
INPUTS = ("a b/model.onnx", "--data", "pictures", "--mean", "0.5", "--threads", "2")
COMMAND = ("shapprune", "audit", *INPUTS, "-o", "r.json", "--report", "html=r.html", "--report=json=x", "-v")


def suspicious() -> AuditRecord:
    attack = AttackPart(kind="all-to-one", targets=(1,), p_value=0.01004)
    return audit_record(verdict="inconclusive", repair="not_tried").model_copy(update={"suspects": (attack,)})


def refused() -> AuditRecord:
    record = audit_record(repair="not_tried")
    found = FindingPart(level="critical", text="a bomb", rule="OSP004")
    return record.model_copy(
        update={"model": record.model.model_copy(update={"classes": 0}), "findings": (found,), "attacks": ()}
    )


def dry_run() -> AuditRecord:
    record = audit_record()
    command = ("shapprune", "sanitize", *INPUTS, "--dry-run")
    return record.model_copy(update={"repair": record.repair.model_copy(update={"output": None}), "command": command})


OUTCOMES = {
    "pass": audit_record(verdict="pass", repair="not_tried"), "fail": audit_record(repair="not_tried"),
    "hostile": refused(), "suspicious": suspicious(), "repaired": audit_record(), "dry run": dry_run(),
    "inconclusive": audit_record(verdict="inconclusive", repair="not_tried"),
    "not repaired": audit_record(repair="not_repaired"),
}  # fmt: skip
NEXT = {
    "pass": "shapprune gate r.json --model 'a b/model.onnx'",
    "fail": "shapprune sanitize 'a b/model.onnx' --data pictures --mean 0.5 --threads 2 -o model.sanitized.onnx",
    "hostile": "shapprune rules OSP004",
    "suspicious": "shapprune calibrate clean_models/ --data pictures --mean 0.5 -o calibration.json",
    "inconclusive": "shapprune docs verdicts",
    "repaired": "shapprune verify 'a b/model.onnx' clean.onnx --data pictures --mean 0.5",
    "dry run": "shapprune sanitize 'a b/model.onnx' --data pictures --mean 0.5 --threads 2 -o model.sanitized.onnx",
    "not repaired": "shapprune sanitize 'a b/model.onnx' --data pictures --mean 0.5 --threads 2 "
    "-o model.sanitized.onnx --unlabelled more_pictures/",
}


def called(record: AuditRecord) -> AuditRecord:
    """The same, from a command with options of every kind, unless it has one."""
    return record if record.command[2:] else record.model_copy(update={"command": COMMAND})


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_outcome_is_named_and_ends_in_the_next_command(name):
    record = called(OUTCOMES[name])
    assert outcome_of(record) == name
    text = audit_text(record, details=False)
    assert len(text.splitlines()) <= SCREEN
    assert f"     {NEXT[name]}\n" in text
    assert " ".join(sentence(record, name).split()) in " ".join(text.split())
    screen, _, more = text.rpartition("\n\n")
    seen = "html" in " ".join(record.command)
    assert audit_text(record).startswith(screen + "\n\n"), "the tables stand behind the screen"
    assert more == (
        "  The triggers as pictures, and all tables: r.html\n"
        if seen
        else "  -v: all tables; --report html=FILE: the triggers as pictures\n"
    )
    assert more not in audit_text(record)
    assert len(audit_text(record)) > 1.5 * len(text)


def test_what_the_run_wrote_is_where_more_is():
    """A search of minutes is not asked for again."""
    for words, told in (
        (("-o", "r.json"), "shapprune report r.json -f html -o report.html"),
        (("--report", "my r.json"), "shapprune report 'my r.json' -f html -o report.html"),
        (("--report=json=r.json", "--report", "md=r.md"), "shapprune report r.json -f html -o report.html"),
        (("--report=html=page.html", "-o", "r.json"), "all tables: page.html"),
        (("--report", "md=r.md"), "-v: all tables"),
    ):
        record = OUTCOMES["fail"].model_copy(update={"command": ("shapprune", "audit", "model.onnx", *words)})
        assert told in audit_text(record, details=False).rpartition("\n\n")[2], words


@pytest.mark.parametrize("name", OUTCOMES)
def test_commands_are_understood(name):
    from test_docs import refused as why_not

    for step in what_now(called(OUTCOMES[name]), name):
        if step.command:
            assert not why_not([*step.command[1:]]), shlex.join(step.command)


def test_a_call_without_a_command_line_gets_one_all_the_same():
    (step,) = [s for s in what_now(OUTCOMES["fail"], "fail") if s.command]
    assert shlex.join(step.command) == "shapprune sanitize model.onnx --data pictures/ -o model.sanitized.onnx"
    (step,) = what_now(OUTCOMES["pass"], "pass")
    assert shlex.join(step.command) == "shapprune gate report.json --model model.onnx"


def test_what_is_missing_decides_what_to_do():
    record = called(OUTCOMES["inconclusive"])
    wrong = record.model_copy(update={"data": record.data.model_copy(update={"preprocessing": "unlikely"})})
    (step,) = what_now(wrong, "inconclusive")
    assert shlex.join(step.command) == "shapprune fit 'a b/model.onnx' --data pictures --mean 0.5"
    (step,) = what_now(record.model_copy(update={"not_searched": ("warps",)}), "inconclusive")
    assert step.command[:2] == ("shapprune", "audit")


def test_another_command_is_told_all_that_was_said_about_the_pictures():
    """Without the labels or the preprocessing it would look at something else, and say so with a straight face."""
    said = ("--labels=my list.csv", "--input-range", "-1", "1", "--input-size", "28", "28", "--layout", "NHWC")
    command = ("shapprune", "audit", "model.onnx", "--seed", "3", "--data", "flat", *said, "-o", "r.json")
    record = OUTCOMES["repaired"].model_copy(update={"command": command})
    (verify,) = [s for s in what_now(record, "repaired") if s.command]
    assert verify.command == ("shapprune", "verify", "model.onnx", "clean.onnx", "--data", "flat", *said)
    judged = record.model_copy(update={"command": ("shapprune", "gate", *command[2:])})
    (repair,) = [s for s in what_now(judged, "dry run") if s.command]
    assert repair.command[2:-2] == ("model.onnx", "--data", "flat", *said)


def test_the_options_of_the_input_are_those_of_the_command_line():
    from onnx_shapprune.cli.options.inputs import OF_THE_FILE, OF_THE_PICTURES

    declared = {d.names[0]: d.settings.get("nargs", 1) for d in (*OF_THE_PICTURES, *OF_THE_FILE)}
    assert declared.pop("--unlabelled") == 1, "only a repair looks at them"
    assert {"--data": 1, "--config": 1} | declared == OF_THE_INPUT


@pytest.mark.parametrize("name", ["pass", "fail", "suspicious"])
def test_without_labels_the_preprocessing_is_looked_at_first(name):
    record = called(OUTCOMES[name])
    assert "fit" not in {s.command[1] for s in what_now(record, name) if s.command}, "labels spoke for it"
    told = {"label_source": "model", "classes_covered": 2, "preprocessing": "unchecked"}
    unlabelled = record.model_copy(update={"data": record.data.model_copy(update=told)})
    first = what_now(unlabelled, name)[0]
    assert first.command == ("shapprune", "fit", "a b/model.onnx", "--data", "pictures", "--mean", "0.5")
    text = " ".join(audit_text(unlabelled, details=False).split())
    assert "pictures 10 without labels, in which the model sees 2 classes; preprocessing unchecked" in text
    drawn = record.model_copy(update={"data": record.data.model_copy(update={**told, "label_source": "synthesised"})})
    assert "fit" not in {s.command[1] for s in what_now(drawn, name) if s.command}, "there is nothing to try it on"


def test_what_a_repair_costs_is_not_said_without_real_pictures():
    record = audit_record()
    drawn = record.model_copy(update={"data": record.data.model_copy(update={"label_source": "synthesised"})})
    told, untold = (" ".join(audit_text(r, details=False).split()) for r in (record, drawn))
    assert "of unseen pictures about" in told
    assert "of unseen pictures about" not in untold
    assert "what it costs real pictures is not known without them" in untold
    for said in (audit_text(drawn, details=True), page(*judged(drawn))):
        assert "what real ones lose is not known" in " ".join(said.split())
    assert "not known without pictures" in page(*judged(drawn))


def test_a_run_that_wrote_no_report_says_how_to_get_one():
    record = OUTCOMES["pass"].model_copy(update={"command": ("shapprune", "audit", "model.onnx", "--data", "p")})
    (step,) = what_now(record, "pass")
    assert "this run wrote no report, so run it again with -o report.json:" in step.text
    (step,) = what_now(called(OUTCOMES["pass"]), "pass")
    assert "no report" not in step.text


def test_the_number_that_decides_stands_there():
    text = " ".join(audit_text(OUTCOMES["fail"], details=False).split())
    assert "target class 3 class-3 " in text
    assert "p-value 0.0001 (named from 0.01 down, suspicious from 0.05 down): square patch" in text
    assert "100 % of 9 other pictures go there" in text
    assert "97 % of its lead is gone" in text


def test_the_evidence_shown_is_what_decided():
    """The most unusual claim was no evidence; the margins alone name the class."""
    record = OUTCOMES["fail"]
    (claim,), (attack,) = record.claims, record.attacks
    few = claim.model_copy(update={"statistic": "agreement", "p_value": 7e-6, "cautions": ("only 2 pictures",)})
    peak = claim.model_copy(update={"statistic": "peak", "p_value": 0.005, "outside": ()})
    told = {"claims": (few, peak), "attacks": (attack.model_copy(update={"p_value": 0.005}),)}
    text = " ".join(audit_text(record.model_copy(update=told), details=False).split())
    assert "evidence p-value 0.005 (named from 0.01 down, suspicious from 0.05 down): largest margin" in text


def test_a_p_value_is_never_shown_as_what_it_is_held_against():
    text = audit_text(suspicious(), details=False)
    assert "p-value 0.01004 (named from 0.01 down" in text
    assert "stands out, and not enough to be named" in text


def test_what_was_not_covered_is_said():
    record = OUTCOMES["pass"].model_copy(update={"not_searched": ("pairs of classes",)})
    text = " ".join(audit_text(record, details=False).split())
    assert "not covered Not searched: pairs of classes. Few pictures. Most source-specific triggers" in text


def test_a_dry_run_says_no_file_was_written():
    text = audit_text(dry_run(), details=False)
    assert text.startswith("DRY RUN, nothing written  ")
    assert "was written" not in text.replace("Nothing was written", "")
    assert "clean.onnx" not in text


def test_a_comparison_fits_a_screen_too():
    record = verify_record()
    text = verify_text(record, details=False)
    assert len(text.splitlines()) <= SCREEN
    assert "before ACC 90 % of 10 pictures, ASR 100 % and R-Acc 88 % of 9 with the triggers" in " ".join(text.split())
    assert "shapprune gate report.json --model clean.onnx" in text
    assert verify_text(record).startswith(text.rpartition("\n\n")[0])
    failed = verify_text(verify_record(verdict="fail"), details=False)
    assert "do not use it" in failed
    assert "Do not deploy the second file" in failed


@pytest.mark.parametrize(
    ("record", "policy", "outcome"),
    [
        (OUTCOMES["pass"], "fail", "not met"), (OUTCOMES["repaired"], "fail", "not met"),
        (OUTCOMES["fail"], "pass", "accepted"), (OUTCOMES["suspicious"], "pass", "accepted"),
        (OUTCOMES["repaired"], "pass", "repaired"), (OUTCOMES["fail"], "fail", "fail"),
        (OUTCOMES["pass"], "inconclusive", "inconclusive"), (OUTCOMES["suspicious"], "inconclusive", "suspicious"),
    ],
)  # fmt: skip
def test_a_policy_may_say_something_else(record, policy, outcome):
    assert outcome_of(record, policy) == outcome
    if outcome == "not met":
        assert what_now(record, outcome, ("OSP202", "OSP202"))[1:] == (Step("What OSP202 means:", RULE),)


@pytest.mark.parametrize("name", JUDGED)
def test_every_record_has_a_screen(name):
    record, judgement = JUDGED[name]
    text = verify_text(record) if isinstance(record, VerifyRecord) else audit_text(record)
    assert "->" in text
    assert what_now(record, outcome_of(record, judgement.verdict), tuple(f.rule for f in judgement.findings))


@pytest.mark.parametrize(
    ("name", "right", "told"), [("fail", 0.7, True), ("suspicious", 0.8, True), ("fail", 0.9, False)]
)
def test_who_accuses_what_answers_few_pictures_rightly_says_so_first(name, right, told):
    record = called(OUTCOMES[name])
    record = record.model_copy(update={"before": record.before.model_copy(update={"acc": right})})
    first = what_now(record, name)[0]
    assert (first.command[1:2] == ("fit",)) is told
    assert (f"Only {right:.0%} of these pictures get their label." in first.text) is told


@pytest.mark.parametrize(
    ("family", "words"), [("compact", "square patch of"), ("tone", "change of brightness or tint:")]
)
def test_only_what_covers_a_part_of_the_picture_has_a_size(family, words):
    record = OUTCOMES["fail"]
    triggers = tuple(t.model_copy(update={"family": family}) for t in record.triggers)
    record = record.model_copy(update={"triggers": triggers})
    assert trigger_words(record, record.attacks[0]).startswith(words)
    assert {f.name for f in whole_picture(8, 8, 3)} == {*WHOLE}
