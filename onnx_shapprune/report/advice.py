"""What to do now, by outcome: sentences, with the exact command where one helps."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from onnx_shapprune.gate.evidence import Record, judged_files
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.report.outcome import Outcome
from onnx_shapprune.report.subject import unchecked

# Options of a call that say where something goes or how it is shown, and no other call may take over.
PLACES = ("-o", "--output", "--report", "--artifacts", "-f", "--format", "--color", "--progress")
SHOWN = ("-q", "--quiet", "-v", "--verbose", "-qv", "-vq", "--dry-run", "--keep-partial", "--exit-zero")
# Of labelled pictures: where no more get their label, clean networks that are shown other pictures than they learnt are told
# of. 2026-11-28, tests.benchmarks.population: of 33 that answer 60 to 86 % three were named and six suspicious, and at most
# 0.8 of the ten to 43 pictures that each was given got their label.
FEW_RIGHT = 0.8
FAILED_LINES = "See which lines of the policy failed, and what that means."
DATA = ("--data", "pictures/")  # what a command is shown with where the record does not say
# Options that say which pictures these are and how the file takes them, with how many words follow: without one of them
# another command would look at something else. Those of cli/options/inputs.py, which a test compares, but for --unlabelled.
OF_THE_INPUT = {
    "--data": 1,
    "--input-range": 2,
    "--mean": 1,
    "--std": 1,
    "--channel-order": 1,
    "--resize": 1,
    "--classes": 1,
    "--labels": 1,
    "--per-class": 1,
    "--layout": 1,
    "--input-size": 2,
    "--output-name": 1,
    "--limit": 1,
    "--allow-root": 1,
    "--config": 1,
}


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do. command: words to type, () for none."""

    text: str
    command: tuple[str, ...] = ()


def what_now(record: Record, outcome: Outcome, rules: Sequence[str] = ()) -> tuple[Step, ...]:
    """What a reader does next, the first thing first. rules: ids of what a policy holds against the file."""
    if isinstance(record, VerifyRecord):
        return _after_comparison(record, outcome, rules)
    return (*_looked_at_first(record, outcome), *_after_audit(record, outcome, rules))


def _looked_at_first(record: AuditRecord, outcome: Outcome) -> tuple[Step, ...]:
    """Whether the file was fed rightly, where nobody knows or few answers are right."""
    if outcome in ("pass", "fail", "suspicious") and record.data.label_source == "model" and unchecked(record):
        return (Step("No labels say that it was fed rightly. See first what fits:", _fit(record)),)
    right, given = record.before.acc, record.data.label_source in ("given", "folder")
    if outcome in ("fail", "suspicious") and given and right is not None and right <= FEW_RIGHT:
        text = (
            f"Only {right:.0%} of these pictures get their label. What a network never learnt moves it easily: one of ten "
            "clean ones is accused then. See first what fits:"
        )
        return (Step(text, _fit(record)),)
    return ()


def _after_audit(record: AuditRecord, outcome: Outcome, rules: Sequence[str]) -> tuple[Step, ...]:
    match outcome:
        case "pass":
            return _deploy(record, "Measure the file on a test set of your own. Then let the pipeline check it")
        case "fail":
            return (
                Step("Do not deploy it. Look at the trigger: would an attacker have made it?"),
                Step("Repair the file, or ask its source for another one:", _again(record, "sanitize")),
            )
        case "hostile":
            refused = [f.rule for f in record.findings if f.level in ("high", "critical")]
            return (
                Step("Do not load it, with any program. Ask its source for another file."),
                *_explained(rules or refused),
            )
        case "suspicious":
            return (
                Step(f"Look at the trigger. Then audit again with more pictures than these {record.data.pictures}."),
                Step("Or compare it with clean models of your own kind:", _calibration(record)),
            )
        case "inconclusive":
            return _inconclusive(record)
        case "repaired":
            return (
                Step(f"Measure {judged_files(record)[0].name} on your own test set, and deploy it, not its input."),
                Step("Have it compared with the input once more:", _comparison(record)),
            )
        case "dry run":
            return (Step("Do not deploy it. Write the repaired copy:", _again(record, "sanitize")),)
        case "not repaired":
            return (
                Step("Do not deploy it. Ask its source for another file, or train it anew."),
                Step("More pictures make a repair cost less; they need no labels:", _with_more_pictures(record)),
            )
        case "not met":
            return (Step(FAILED_LINES), *_explained(rules))
        case "accepted":
            return (Step("See who accepted what, and until when; the file itself is not clean."),)


def _after_comparison(record: VerifyRecord, outcome: Outcome, rules: Sequence[str]) -> tuple[Step, ...]:
    if outcome == "pass":
        return _deploy(record, "Measure the second file on a test set of your own. Then let the pipeline check it")
    if outcome == "fail":
        return (Step("Do not deploy the second file: it is not the first one, repaired."), *_explained(rules))
    if outcome == "not met":
        return (Step(FAILED_LINES), *_explained(rules))
    if outcome == "accepted":
        return (Step("See who accepted what, and until when; the second file itself does not hold."),)
    return (
        Step("Do not treat it as clean. What is missing stands in the reasons:", ("shapprune", "docs", "verdicts")),
    )


def _deploy(record: Record, text: str) -> tuple[Step, ...]:
    written = next(written_as("json", record), "")
    if _call(record) and not written:
        option = "-o" if _call(record)[1:2] == ("audit",) else "--report"
        text += f"; this run wrote no report, so run it again with {option} report.json"
    command = ("shapprune", "gate", written or "report.json", "--model", _path(record, judged_files(record)[0].name))
    return (Step(f"{text}:", command),)


def _inconclusive(record: AuditRecord) -> tuple[Step, ...]:
    start = "Do not treat it as clean."
    if record.data.preprocessing == "unlikely":
        return (Step(f"{start} It is probably fed wrongly; find out how it wants its pictures:", _fit(record)),)
    if record.not_searched:
        return (Step(f"{start} Give it the time to search everything:", _again(record, "audit")),)
    return (Step(f"{start} What is missing stands in the reasons:", ("shapprune", "docs", "verdicts")),)


def _fit(record: AuditRecord) -> tuple[str, ...]:
    return ("shapprune", "fit", _path(record, record.model.name), *_of_the_input(record))


def _explained(rules: Sequence[str]) -> tuple[Step, ...]:
    named = [r for r in dict.fromkeys(rules) if r]
    return tuple(Step(f"What {rule} means:", ("shapprune", "rules", rule)) for rule in named[:3])


def _calibration(record: AuditRecord) -> tuple[str, ...]:
    return ("shapprune", "calibrate", "clean_models/", *_of_the_input(record), "-o", "calibration.json")


def _comparison(record: AuditRecord) -> tuple[str, ...]:
    written = judged_files(record)[0].name
    pair = _path(record, record.model.name), _path(record, written)
    return ("shapprune", "verify", *pair, *_of_the_input(record))


def _with_more_pictures(record: AuditRecord) -> tuple[str, ...]:
    return (*_again(record, "sanitize"), "--unlabelled", "more_pictures/")


def _again(record: AuditRecord, command: str) -> tuple[str, ...]:
    """The same call for another command, without what it was to write."""
    words = _inputs(record)
    if _call(record)[1:2] not in (("audit",), ("sanitize",)) or record.model.name not in map(_name, words):
        words = (_path(record, record.model.name), *_of_the_input(record))
    output = f"{PurePath(record.model.name).stem}.sanitized.onnx" if command == "sanitize" else "report.json"
    return ("shapprune", command, *words, "-o", output)


def _inputs(record: Record) -> tuple[str, ...]:
    """What stood behind the command's name, without options that say where results go or how they are shown."""
    kept: list[str] = []
    skip = False
    for word in _call(record)[2:]:
        if skip or word in SHOWN:
            skip = False
        elif word in PLACES:
            skip = True
        elif not word.startswith(tuple(f"{place}=" for place in PLACES if place.startswith("--"))):
            kept.append(word)
    return tuple(kept)


def written_as(form: str, record: Record) -> Iterator[str]:
    """Reports of a format that the run wrote, as far as its command tells."""
    words = [part for word in _call(record) for part in _apart(word)]
    for option, value in itertools.pairwise(words):
        kind, equals, path = value.partition("=")
        if option == "--report":
            of_a_kind = equals and kind.isalnum()
            if form == (kind if of_a_kind else "json"):
                yield path if of_a_kind else value
        elif option in ("-o", "--output") and words[1] == "audit" and form == "json":
            yield value


def _apart(word: str) -> tuple[str, ...]:
    """--report=VALUE as two words."""
    return ("--report", word.removeprefix("--report=")) if word.startswith("--report=") else (word,)


def _of_the_input(record: Record) -> tuple[str, ...]:
    """What the command said about the pictures and how the file takes them; pictures of any kind where it did not."""
    words, kept = iter(_call(record)), list[str]()
    for word in words:
        option, written, _ = word.partition("=")
        if follow := OF_THE_INPUT.get(option):
            kept += [word, *itertools.islice(words, follow - bool(written))]
    return tuple(kept) if "--data" in (word.partition("=")[0] for word in kept) else (*DATA, *kept)


def _call(record: Record) -> tuple[str, ...]:
    """How the program was called, or would be for this file alone where it was one of many."""
    return (isinstance(record, AuditRecord) and record.alone) or record.command


def _path(record: Record, name: str) -> str:
    """A file as it stood in the command, else its name."""
    return next((word for word in _call(record) if _name(word) == name), name)


def _name(word: str) -> str:
    return PurePath(word).name
