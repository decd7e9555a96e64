"""On paper: a few pages, with what the reader left folded left out."""

import re
import shutil
import subprocess

import pytest
from judged import JUDGED, judged
from test_page import large

from onnx_shapprune.report.page import page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
MOST = 4
PAGE = re.compile(rb"/Type\s*/Page\b")


def pages_of(text: str, folder) -> int:
    """Sheets of A4 that a page takes."""
    source, printed = folder / "page.html", folder / "page.pdf"
    source.write_text(text, encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        f"--user-data-dir={folder / 'profile'}", "--no-pdf-header-footer", f"--print-to-pdf={printed}", source.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return len(PAGE.findall(printed.read_bytes()))


@pytest.mark.parametrize("name", ["pass", "fail", "repaired", "not repaired", "verify"])
def test_it_prints_on_a_few_pages(tmp_path, name):
    assert 1 <= pages_of(page(*JUDGED[name]), tmp_path) <= MOST


def test_pages_are_counted(tmp_path):
    text = page(*JUDGED["pass"]).replace("</main>", "<p>word</p>" * 600 + "</main>", 1)
    assert pages_of(text, tmp_path) > MOST


def test_a_large_record_prints_on_a_few_pages(tmp_path):
    assert pages_of(page(*judged(large())), tmp_path) <= MOST
