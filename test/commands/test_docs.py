# SPDX-License-Identifier: Apache-2.0
"""Command lines in the documentation parse, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from drp_slam import cli

ROOT = Path(__file__).parents[2]
MADE = {"cli.md", "parameters.md", "api.md"}
FOLDERS = ("*.md", "docs/**/*.md", "models/*.md")
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(folder) if page.name not in MADE)
LINE = re.compile(r"python -m drp_slam +((?:[^`\n\\]|\\\n)+)")


def command_lines(page: Path) -> list[list[str]]:
    """Arguments of every whole `python -m drp_slam ...`; one that only names a command is left out."""
    found = []
    for text in LINE.findall(page.read_text()):
        text = re.sub(r"\[(-[^\]]*)\]", r"\1", text.replace("\\\n", " "))  # optional parts are taken
        words = shlex.split(text.partition(" #")[0].partition(" > ")[0].rstrip(" .,;:)"), comments=True)
        if len(words) > 1 and "…" not in words and "..." not in words:
            found.append(words)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_command_lines_parse(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in command_lines(page):
        try:
            cli.parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"{page.name}: python -m drp_slam {shlex.join(words)}: {capsys.readouterr().err}")


def test_command_lines_are_found() -> None:
    assert sum(len(command_lines(page)) for page in PAGES) >= 20


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r": (\S+\.md)$", menu, re.M))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    gone = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not gone


APT = {"numpy": "python3-opencv", "opencv-python-headless": "python3-opencv", "PyYAML": "python3-yaml"}
"""Python package -> Ubuntu's, with which it comes."""
CONDA = {
    "opencv-python-headless": "opencv",
    "matplotlib": "matplotlib-base",
    "PyYAML": "pyyaml",
    "setuptools": "colcon",
}


@pytest.mark.parametrize(
    ("file", "names"),
    [("Dockerfile", APT), (".github/workflows/ros.yml", APT), ("docs/ros.md", APT), ("pixi.toml", CONDA)],
)
def test_every_way_to_install_has_all_that_the_package_needs(file: str, names: dict[str, str]) -> None:
    setup = (ROOT / "setup.py").read_text().partition("install_requires=[")[2].partition("]")[0]
    needed = {re.split("[<>=]", name)[0] for name in re.findall('"([^"]+)"', setup)}
    assert "scipy" in needed and len(needed) > 8
    text = (ROOT / file).read_text()
    comes = {"setuptools": "python3-venv"} | names
    missing = [n for n in needed if not re.search(rf"(?<![\w-]){re.escape(comes.get(n, n))}(?![\w])", text)]
    assert not missing
