"""Options in groups: a help text of forty-five options in one list helps nobody."""

import click

DATA, SEARCH, REPAIR, RESULTS = "Pictures and preprocessing", "Search", "Repair and Shapley values", "Results"
WHERE, LIMITS, DISPLAY = "Where it runs", "Limits", "Display"
SETTINGS, OTHER = "Settings", "Options"
ORDER = (OTHER, RESULTS, DATA, SEARCH, REPAIR, WHERE, LIMITS, DISPLAY, SETTINGS)


class SectionedOption(click.Option):
    """An option that knows under which heading of a help text it stands."""

    def __init__(self, *args: object, section: str = OTHER, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self.section = section


def write_sections(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """All options of a command, each group under its heading; what was declared without one comes first."""
    rows: dict[str, list[tuple[str, str]]] = {name: [] for name in ORDER}
    for parameter in command.get_params(ctx):
        if isinstance(parameter, click.Option) and (row := parameter.get_help_record(ctx)) is not None:
            rows[getattr(parameter, "section", OTHER)].append(row)
    for name, listed in rows.items():
        if listed:
            with formatter.section(name):
                formatter.write_dl(listed)
