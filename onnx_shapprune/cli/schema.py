"""shapprune schema"""

import json

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.configuration import NOT_IN_FILES, options
from onnx_shapprune.cli.streams import show

DRAFT = "https://json-schema.org/draft/2020-12/schema"


@click.command("schema")
@click.argument("what", type=click.Choice(["report", "judgement", "policy", "config"]))
@click.pass_context
def schema_command(context: click.Context, what: str) -> int:
    """Print what a file looks like.

    \b
    report     JSON Schema of report.json, of audit, sanitize and verify
    judgement  JSON Schema of what gate -f json prints
    policy     the default policy, a TOML file to start from
    config     shapprune.toml with every setting and its default

    \b
    Examples:
      shapprune schema policy > policy.toml
      shapprune schema report > report.schema.json
    """
    if what == "policy":
        from onnx_shapprune.gate.policy import default_policy_text

        show(default_policy_text())
    elif what == "config":
        commands = context.find_root().command
        assert isinstance(commands, click.Group)
        show(config_text(context, commands))
    else:
        show(json.dumps(_json_schema(what), indent=2) + "\n")
    return exits.PASS


def config_text(context: click.Context, commands: click.Group) -> str:
    """All settings of a configuration file as comments, each under its help; those of one command in its table."""
    users: dict[str, list[str]] = {}
    for name, command in commands.commands.items():
        for option in options(command):
            users.setdefault(option, []).append(name)
    lines = [
        "# Settings of shapprune; in pyproject.toml, under [tool.shapprune]. Keys are options without their dashes.",
        "# Here they hold for every command that has such an option; a table like [audit] holds for that command only.",
        "",
    ]
    for option, names in users.items():
        if option in NOT_IN_FILES:
            continue
        parameter = options(commands.commands[names[0]])[option]
        default = parameter.get_default(context)
        lines += [f"# {parameter.help}", f"# ({', '.join(names)})", f"# {option} = {_toml(default)}", ""]
    return "\n".join(lines)


def _toml(default: object) -> str:
    if isinstance(default, (bool, int, float, str)):
        return json.dumps(default)
    return json.dumps(list(default)) if isinstance(default, tuple) else "..."


def _json_schema(what: str) -> dict[str, object]:
    from pydantic import TypeAdapter

    from onnx_shapprune.gate.judgement import Judgement
    from onnx_shapprune.record.audit import AuditRecord, VerifyRecord
    from onnx_shapprune.record.parts import SCHEMA_VERSION

    about: TypeAdapter[object] = TypeAdapter(AuditRecord | VerifyRecord if what == "report" else Judgement)
    head = {"$schema": DRAFT, "$id": f"urn:onnx-shapprune:{what}:{SCHEMA_VERSION}", "title": f"onnx-shapprune {what}"}
    return head | about.json_schema()
