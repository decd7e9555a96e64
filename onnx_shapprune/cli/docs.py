"""shapprune docs"""

import re
import shutil
from importlib.resources import files

import click

from onnx_shapprune.cli import exits
from onnx_shapprune.cli.streams import show
from onnx_shapprune.gate.spelling import meant
from onnx_shapprune.report.layout import Page

PAGES = files("onnx_shapprune") / "docs" / "pages"
START = "index"
# The table of the start page is the list of all pages, so that it stands in one place.
ROW = re.compile(r"^\| \[[^]]+\]\(([a-z-]+)\.md\) \| (.+) \|$", re.MULTILINE)


@click.command("docs")
@click.argument("page", metavar="[PAGE]", required=False)
def docs_command(page: str | None) -> int:
    """List the pages of the documentation, or print one as Markdown. They come with the package: no network is needed.

    \b
    Examples:
      shapprune docs
      shapprune docs verdicts
    """
    listed = pages()
    if page is None:
        show(_list(listed))
    elif page in listed or page == START:
        show(page_text(page))
    else:
        raise click.UsageError(f"no page {page!r}{meant(page, listed)}; shapprune docs lists them")
    return exits.PASS


def pages() -> dict[str, str]:
    """What each page answers, by its name, in the order of the start page."""
    return dict(ROW.findall(page_text(START)))


def page_text(name: str) -> str:
    """A page as it was written."""
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def _list(listed: dict[str, str]) -> str:
    made = Page(shutil.get_terminal_size((80, 24)).columns, colour=False)
    made.pairs(list(listed.items()))
    made.title("shapprune docs PAGE prints one.")
    return made.text()
