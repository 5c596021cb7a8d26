"""A headless Chromium with a guest's console open in noVNC.

with open_browser() as browser:
    console = Console(browser, url)
    console.type("root\\n")
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
KEY_PAUSE = 60  # milliseconds between two keys: a guest without KVM reads them slowly
CONNECTED, REFUSED = "html.noVNC_connected", "#noVNC_status.noVNC_status_error.noVNC_open"
COUNT_LIT = """canvas => {
    const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let lit = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at] + data[at + 1] + data[at + 2] > 200) lit += 1;
    return lit;
}"""


@contextmanager
def open_browser() -> Iterator[BrowserContext]:
    """A Chromium with nothing remembered."""
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile, sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=False, args=list(FLAGS), chromium_sandbox=False
        )
        try:
            yield browser
        finally:
            browser.close()


class Console:
    """A guest's screen and keyboard, as whoever opens the console's URL has them."""

    def __init__(self, browser: BrowserContext, url: str, seconds: float = 60.0) -> None:
        self._page = browser.new_page()
        self._page.goto(url)
        self._patience = seconds * 1000

    def wait_until_connected(self) -> None:
        """Return once the guest's screen is there."""
        self._page.wait_for_selector(CONNECTED, timeout=self._patience)
        self._page.wait_for_selector("canvas", timeout=self._patience)

    def wait_until_refused(self) -> str:
        """Return once noVNC has given up, with what it says."""
        self._page.wait_for_selector(REFUSED, timeout=self._patience)
        return self._page.inner_text(REFUSED)

    def count_lit_pixels(self) -> int:
        """How much of the screen is not dark: a text screen's letters."""
        return int(self._page.eval_on_selector("canvas", COUNT_LIT))

    def type(self, text: str) -> None:
        """Press the keys of ``text``, which needs no Shift; a line's end is Enter."""
        self._page.click("canvas")
        for line in text.splitlines(keepends=True):
            self._page.keyboard.type(line.rstrip("\n"), delay=KEY_PAUSE)
            if line.endswith("\n"):
                self._page.keyboard.press("Enter")

    def save(self, path: Path) -> None:
        """A picture of the page, as PNG."""
        self._page.screenshot(path=path)

    def close(self) -> None:
        self._page.close()
