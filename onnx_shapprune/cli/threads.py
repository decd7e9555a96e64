"""Threads that were asked for and cores that there are."""

from dataclasses import replace

import click

from onnx_shapprune.runtime.cores import usable_cores
from onnx_shapprune.settings import RunOptions


def capped(run: RunOptions) -> RunOptions:
    """The same run with no more threads than this process has cores; says on stderr where it takes fewer."""
    cores = usable_cores()
    if run.threads <= cores:
        return run
    were = "1 core is" if cores == 1 else f"{cores} cores are"
    click.echo(f"note: --threads {run.threads} is more than there is: {were} used", err=True)
    return replace(run, threads=cores)
