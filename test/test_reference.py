# SPDX-License-Identifier: Apache-2.0
"""The reference pages say what the code takes."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path

import pytest

import drp_slam
from drp_slam.commands import commands

DOCS = Path(__file__).parent.parent / "docs"
PAGES = runpy.run_path(str(DOCS / "reference.py"))["pages"]()


@pytest.mark.parametrize("name", list(PAGES))
def test_a_page_is_made_from_the_code(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name], "run python docs/reference.py"


def test_everything_is_on_a_page() -> None:
    assert all(f"\n## {name}\n" in PAGES["cli.md"] for name in commands())
    for word in ("--baseline", "--max-ate-increase", "SECTION.KEY=VALUE", "synthetic:seed=1", "BAG:image=", "KITTI"):
        assert word in PAGES["cli.md"]
    config = drp_slam.Config()
    sections = [getattr(config, f.name) for f in dataclasses.fields(config)]
    assert all(f"| `{f.name}` |" in PAGES["parameters.md"] for s in sections for f in dataclasses.fields(s))
    assert all(f"\n## {name}\n" in PAGES["api.md"] for name in drp_slam.__all__ if name != "__version__")
