"""The page in a real browser: nothing is fetched, nothing is refused, nothing sticks out, everything can be read."""

import shutil
from pathlib import Path

import pytest
from judged import JUDGED

from onnx_shapprune.report.page import page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
AA = 4.5
# Of every piece of text: its contrast with what lies behind it, and its first words.
CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || element.closest('script, title, desc') || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), drawn = element.ownerSVGElement ? style.fill : style.color;
    const [a, b] = [light(rgba(drawn)), light(behind(element))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.slice(0, 40)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with playwright.sync_playwright() as control:
        started = control.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, args=FLAGS, headless=True
        )
        yield started
        started.close()


class Opened:
    """A page with everything that it asked for and complained of."""

    def __init__(self, browser, folder: Path, name: str, *, width: int = 1280, scheme: str = "light") -> None:
        file = folder / "page.html"
        file.write_text(page(*JUDGED[name]), encoding="utf-8")
        self.page = browser.new_page()
        self.page.set_viewport_size({"width": width, "height": 800})
        self.page.emulate_media(color_scheme=scheme)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.page.close()


@pytest.mark.parametrize("name", ["fail", "repaired", "inconclusive", "verify", "hostile", "hostile fail"])
def test_no_complaint_and_no_request_leaves_the_page(browser, tmp_path, name):
    with Opened(browser, tmp_path, name) as opened:
        assert opened.said == []
        assert [url for url in opened.asked[1:] if not url.startswith("data:")] == []
        assert opened.page.evaluate("[...document.images].filter(i => !i.naturalWidth).length") == 0


def test_what_is_fetched_or_said_would_be_noticed(browser, tmp_path):
    with Opened(browser, tmp_path, "fail") as opened:
        opened.page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.invalid/x.png'}))")
        opened.page.wait_for_timeout(200)
        assert any("Content Security Policy" in text for text in opened.said)


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["fail", "repaired", "verify", "hostile fail"])
def test_nothing_sticks_out(browser, tmp_path, name, width):
    with Opened(browser, tmp_path, name, width=width) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["fail", "waived", "inconclusive", "repaired"])
def test_text_can_be_read(browser, tmp_path, name, scheme):
    with Opened(browser, tmp_path, name, scheme=scheme) as opened:
        found = opened.page.evaluate(CONTRASTS)
        assert len(found) > 100
        assert [(round(ratio, 2), text) for ratio, text in found if ratio < AA] == []
        paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(paper[4:].split(",")[0]) > 128) == (scheme == "light")


def test_text_that_cannot_be_read_would_be_noticed(browser, tmp_path):
    with Opened(browser, tmp_path, "fail") as opened:
        opened.page.evaluate("document.querySelector('.lead').style.setProperty('color', '#aaa')")
        assert min(opened.page.evaluate(CONTRASTS))[0] < AA


def test_a_hostile_name_stays_text(browser, tmp_path):
    with Opened(browser, tmp_path, "hostile fail") as opened:
        assert opened.page.evaluate("document.querySelectorAll('script').length") == 2
        assert opened.page.evaluate("document.querySelectorAll('[onerror]').length") == 0
        assert "<script>alert(1)</script>" in opened.page.locator("h1").inner_text()
        assert opened.page.title().startswith("FAIL: <script>")


def test_paper_shows_what_the_reader_opened(browser, tmp_path):
    with Opened(browser, tmp_path, "repaired") as opened:
        table = opened.page.locator("#channels details table")
        opened.page.emulate_media(media="print")
        assert table.is_visible()
        assert not opened.page.locator("summary").first.is_visible()
        opened.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = false)")
        assert not table.is_visible(), "its chart has the numbers"
        assert not opened.page.locator("nav").is_visible()
