# SPDX-License-Identifier: Apache-2.0
"""docs/cli.md says what the parser takes."""

from __future__ import annotations

from pathlib import Path

from drp_slam.commands import commands
from drp_slam.commands._reference import page

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_made_from_the_code() -> None:
    assert PAGE.read_text() == page(), "run python -m drp_slam.commands._reference > docs/cli.md"


def test_every_command_and_option_is_on_it() -> None:
    text = PAGE.read_text()
    assert all(f"\n## {name}\n" in text for name in commands())
    for word in ("--baseline", "--max-ate-increase", "SECTION.KEY=VALUE", "synthetic:seed=1", "KITTI", "BAG:image="):
        assert word in text
