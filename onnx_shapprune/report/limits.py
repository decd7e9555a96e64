"""What a verdict does not cover: said in every report that people read, and in the inventory that machines keep."""

from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.report.subject import unchecked

KINDS_MISSED = (
    "most source-specific triggers, weak all-to-all triggers, warps (WaNet) where no pictures are "
    "given, and models trained to hide from trigger inversion"
)
MISSED = f"Known to be missed: {KINDS_MISSED}."
NO_CERTIFICATE = "No verdict is a certificate: it says what the searches that ran have found, and nothing about others."


def limits(record: AuditRecord | VerifyRecord, judgement: Judgement) -> tuple[str, ...]:
    """Sentences, what is special to this record first."""
    said = left_open(record)
    pictures, triggered = record.before.pictures, record.before.triggered
    if pictures:
        said.append(
            f"All rates are of {pictures} pictures ({triggered} of them triggered): one picture moves them by "
            f"{100 / pictures:.0f} points. Measure on a test set of your own before you deploy."
        )
    if record.data is not None and record.data.label_source == "model":
        said.append("No labels were given: accuracy is agreement with the model's own answers.")
    if unchecked(record):
        said.append(
            "The preprocessing is unchecked: no labels say whether the model was fed as it was trained, and a model that is "
            "not may pass or fail for no other reason."
        )
    if record.data is not None and record.data.drawn:
        said.append("The pictures were drawn out of the model: accuracy and clean cost are no measurements.")
    if record.before.asr is not None:
        said.append("Attack success is that of recovered triggers; the attacker's own may be another one.")
    if judgement.known:
        said.append("Findings that the baseline has too were let pass: they are still there.")
    if not judgement.model_checked:
        said.append(
            "The model's bytes were not read again when this was judged: compare the digest below with your file's."
        )
    return (*said, MISSED, NO_CERTIFICATE)


def left_open(record: AuditRecord | VerifyRecord) -> list[str]:
    """What this run did not look at, and what it warns of, as sentences."""
    said = [f"Not searched: {left_out}." for left_out in record.not_searched]
    if isinstance(record, AuditRecord):
        said += [f"{warning[:1].upper()}{warning[1:]}." for warning in record.warnings]
    return said
