# SPDX-License-Identifier: Apache-2.0
"""Checks of an HTML page: complete, closed, one file, with its verdict on top; and, where there is Chromium, shown."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

MOST_BYTES = 3_000_000
VOID = {"meta", "link", "br", "wbr", "img", "input", "hr"}

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --enable-logging=stderr "
    "--virtual-time-budget=4000 --allow-file-access-from-files --dump-dom"
)
"""For root, without requests of the browser's own."""


class Tags(HTMLParser):
    """Which tags are open, what was closed in the wrong order, and every id and address."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.sections: list[str] = []
        self.unnamed = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.update([values["id"]] if values.get("id") else [])
        self.addresses += [str(values[k]) for k in ("src", "href", "xlink:href") if values.get(k)]
        if tag == "section":
            self.sections.append(values.get("class") or "")
        if tag in ("img", "svg", "canvas") and not (values.get("alt") or values.get("aria-label")):
            self.unnamed += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def check_page(path: Path) -> str:
    """The text of a page that is well formed, asks nobody for anything, and begins with its verdict."""
    text = path.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert not tags.open and not tags.wrong, f"{path.name}: not closed {tags.open}, wrong {tags.wrong[:5]}"
    assert not [name for name, count in tags.ids.items() if count > 1]
    outside = [a for a in tags.addresses if not a.startswith(("#", "data:")) and not re.fullmatch(r"[\w.-]+", a)]
    assert not outside and "@import" not in text and not re.search(r"url\(\s*[\"']?http", text), outside[:3]
    assert tags.unnamed == 0, "a picture without a description"
    assert tags.sections[0] == "verdict" and re.search('class="verdict"><ul><li>', text)
    assert len(text) < MOST_BYTES and "prefers-color-scheme:dark" in text and "width=device-width" in text
    check_in_browser(path)
    return text


def browse(path: Path, *flags: str) -> tuple[str, list[str]]:
    """Title of a page after its scripts ran, and what the browser wrote to its console: errors, refused requests."""
    with tempfile.TemporaryDirectory() as profile:
        command = [str(CHROMIUM), *FLAGS.split(), *flags, f"--user-data-dir={profile}", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    title = re.search("<title>(.*?)</title>", done.stdout, re.S)
    return html.unescape(title[1]) if title else "", [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def check_in_browser(path: Path) -> None:
    """No error, no overflow and no pale text at 1280 and 390 px, light and dark; nothing without Chromium."""
    if CHROMIUM is None:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(path, folder / "page.html")
        shutil.copy(Path(__file__).with_name("browser.html"), folder)
        title, console = browse(folder / "browser.html")
    assert not console, f"{path.name}: {console[:3]}"
    assert title, f"{path.name}: was not shown"
    wrong = json.loads(title)
    assert not wrong, f"{path.name}: {wrong[:8]}"
