"""shapprune rules"""

import json
from dataclasses import asdict

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import ConfiguredCommand
from onnx_shapprune.cli.options.display import Display, brief_display_options
from onnx_shapprune.cli.streams import show


@click.command("rules", short_help="List what a report can hold against a model.", cls=ConfiguredCommand)
@click.argument("rule_id", metavar="[ID]", required=False)
@brief_display_options
def rules_command(rule_id: str | None, display: Display) -> int:
    """List what a report can hold against a model, or explain one rule. The ids stay what they are.

    \b
    Example:
      shapprune rules OSP101
    """
    from onnx_shapprune.gate.rules import RULES
    from onnx_shapprune.gate.spelling import meant
    from onnx_shapprune.report.decision import rules_text

    if rule_id is not None and rule_id.upper() not in RULES:
        raise click.UsageError(f"no rule {rule_id!r}{meant(rule_id.upper(), RULES)}")
    rules = [RULES[rule_id.upper()]] if rule_id else list(RULES.values())
    if display.as_json:
        show(json.dumps([asdict(rule) for rule in rules], indent=2) + "\n")
    else:
        show(rules_text(rules, width=display.width, colour=display.colour))
    return exits.PASS
