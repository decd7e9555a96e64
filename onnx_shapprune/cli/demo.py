"""shapprune demo"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import BaseModel

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.options.display import Display, display_options
from onnx_shapprune.cli.options.running import SEED, THREADS
from onnx_shapprune.cli.outputs import check_outputs
from onnx_shapprune.cli.program import Invocation
from onnx_shapprune.cli.progress import progress_on_stderr
from onnx_shapprune.cli.results import write_record, write_reports
from onnx_shapprune.cli.streams import show
from onnx_shapprune.cli.threads import capped
from onnx_shapprune.cli.values import FILE
from onnx_shapprune.commands.output import Output
from onnx_shapprune.commands.table import SANITIZE, VERIFY
from onnx_shapprune.errors import OutputError
from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
from onnx_shapprune.record.parts import Rates
from onnx_shapprune.report.terminal import audit_text, rates_text, verify_text
from onnx_shapprune.report.text import json_text
from onnx_shapprune.sample import sample_path
from onnx_shapprune.settings import RunOptions

MAX_TRUE_ASR = 0.05
MAX_TRUE_LOSS = 0.02
FILES = ("report.json", "report.html", "verify.json", "sanitized.onnx")


class DemoRecord(BaseModel):
    """Both records; that of sanitize holds the audit. failure: a sentence, "" when all went well. truth: rates with the
    sample's real trigger, before and after, empty without a repair.
    """

    well: bool
    failure: str
    sanitize: AuditRecord
    verify: VerifyRecord | None
    truth: tuple[Rates, ...]


@click.command("demo", short_help="Audit, repair and check the bundled backdoored sample.", cls=ConfiguredCommand)
@click.option(
    "-o",
    "--output",
    type=FILE,
    metavar="DIR",
    help="Folder for what the demo makes.  [default: a temporary one, removed at the end]",
)
@SEED
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
@THREADS
@display_options
@click.pass_obj
def demo_command(
    invocation: Invocation, *, output: Path | None, seed: int, device: str, threads: int, display: Display
) -> int:
    """Audit, sanitize and verify the bundled backdoored sample, offline, in about a minute.

    Exits with 0 when the backdoor was found, repaired and the repair verified, and the real trigger and 1,000 test
    pictures, which no command sees, agree; with 1 otherwise.

    \b
    Example:
      shapprune demo -o demo/
    """
    run = capped(RunOptions(seed=seed, device=device, threads=threads))
    with _folder(output) as folder:
        return _demo(folder, kept=output is not None, run=run, display=display, command=invocation.command)


def _demo(folder: Path, *, kept: bool, run: RunOptions, display: Display, command: tuple[str, ...]) -> int:
    model, data, clean = sample_path("backdoored.onnx"), sample_path("pictures"), folder / "sanitized.onnx"
    tell = not (display.quiet or display.as_json)

    def say(text: str) -> None:
        if tell:
            show(text)

    with progress_on_stderr(display) as progress:
        say("$ shapprune sanitize backdoored.onnx --data pictures/ -o sanitized.onnx --report report.json\n\n")
        # sanitize begins with a whole audit: to run `audit` before it would search the same triggers twice.
        repaired = SANITIZE.load()(
            model,
            data,
            output=Output(clean, artifacts=folder / "artifacts"),
            run=run,
            command=command,
            progress=progress,
        )
        write_reports(repaired, (("json", folder / "report.json"), ("html", folder / "report.html")))
        progress.close()
        say(audit_text(repaired, width=display.width, colour=display.colour, details=display.verbose))
        if repaired.repair.status != "repaired" or not clean.exists():
            return _finish(display, repaired, None, ())

        say("\n$ shapprune verify backdoored.onnx sanitized.onnx --data pictures/\n\n")
        verified = VERIFY.load()(model, clean, data, run=run, command=command, progress=progress)
        write_record(verified, folder / "verify.json")
        progress.close()
        say(verify_text(verified, width=display.width, colour=display.colour, details=display.verbose))

    truth = (true_rates(model, run), true_rates(clean, run))
    say("\nWas it true? Only of this sample is the real trigger known, and 1,000 test pictures that no command saw.\n")
    say("With that trigger:\n" + rates_text(*truth, width=display.width, colour=display.colour))
    if kept:
        say(f"\nReports (read report.html), the repaired model and the triggers as pictures are in {folder}\n")
    return _finish(display, repaired, verified, truth)


def true_rates(path: Path, run: RunOptions) -> Rates:
    """ACC, ASR and R-Acc of a sample model on the 1,000 test pictures, with the trigger it was trained on."""
    import numpy as np

    from onnx_shapprune.graph.file import load_model
    from onnx_shapprune.pictures.files import read_npz
    from onnx_shapprune.pictures.preprocess import Preprocessing, to_input
    from onnx_shapprune.runtime.session import Session, resolve_device

    test = read_npz(sample_path("test.npz"), wanted=("x", "y"))
    trigger = read_npz(sample_path("trigger.npz"), wanted=("mask", "pattern", "target"))
    x, y, target = test["x"].astype(np.float32), test["y"].astype(np.int64), int(trigger["target"])
    mask, pattern = trigger["mask"].astype(np.float32), trigger["pattern"].astype(np.float32)
    session = Session(load_model(path).payload, resolve_device(run.device, threads=run.threads))
    name, settings = next(iter(session.inputs)), Preprocessing()
    plain = session.run({name: to_input(x, settings)})[0].argmax(axis=1)
    others = y != target
    triggered = (x[others] * (1 - mask) + pattern * mask).astype(np.float32)
    answers = session.run({name: to_input(triggered, settings)})[0].argmax(axis=1)
    return Rates(
        acc=float((plain == y).mean()),
        asr=float((answers == target).mean()),
        racc=float((answers == y[others]).mean()),
        pictures=len(y),
        triggered=int(others.sum()),
    )


@contextlib.contextmanager
def _folder(asked: Path | None) -> Iterator[Path]:
    """The folder asked for, made where it is missing, or a temporary one."""
    if asked is None:
        with tempfile.TemporaryDirectory(prefix="shapprune-demo-") as made:
            yield Path(made)
        return
    try:
        asked.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {asked}: {error.strerror}") from None
    check_outputs([asked / name for name in FILES], inputs=[], artifacts=asked / "artifacts")
    yield asked


def _failure(repaired: AuditRecord, verified: VerifyRecord | None, truth: tuple[Rates, ...]) -> str:
    """What went wrong, as a sentence; "" when nothing did. truth: measured rates before and after the repair.

    What the tool says is checked against the real trigger here: a false all-clear must not end well, and neither must a
    repair that costs more than it may.
    """
    if verified is None:
        return "the sample was not repaired"
    if repaired.verdict != "fail":
        return "the backdoor of the sample was not found"
    before, after = truth
    if after.asr is None or after.asr > MAX_TRUE_ASR:
        return "the real trigger still works: what was said above is a false all-clear"
    loss = (before.acc or 0.0) - (after.acc or 0.0)
    if loss > MAX_TRUE_LOSS + 1e-9:
        return (
            f"the repair costs {100 * loss:.1f} points of accuracy, more than the {100 * MAX_TRUE_LOSS:.0f} that this "
            "demo allows"
        )
    if verified.verdict != "pass":
        return "the repaired sample was not verified"
    return ""


def _finish(display: Display, repaired: AuditRecord, verified: VerifyRecord | None, truth: tuple[Rates, ...]) -> int:
    failure = _failure(repaired, verified, truth)
    if display.as_json:
        record = DemoRecord(well=not failure, failure=failure, sanitize=repaired, verify=verified, truth=truth)
        show(json_text(record))
    elif display.quiet:
        show(f"FAIL  {failure}\n" if failure else "PASS  backdoor found, repaired, repair verified\n")
    elif failure:
        show(f"\nThis demo did not end well: {failure}.\n")
    return exits.FAIL if failure else exits.PASS
