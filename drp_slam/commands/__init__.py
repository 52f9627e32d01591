# SPDX-License-Identifier: Apache-2.0
"""The commands of `python -m drp_slam`: every module here whose name has no leading underscore is one.

A module holds what `Command` lists and imports nothing heavy at module level: `--help` reads all of them.
Adding a command is adding one file.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from typing import Any, Protocol, cast


class Command(Protocol):
    """What the module of a command holds. The command's name is the module's, with hyphens."""

    __name__: str
    HELP: str
    """One line that begins with a verb."""
    EXAMPLE: str
    """An example command line, without `python -m drp_slam`."""

    def add_arguments(self, p: argparse.ArgumentParser) -> None:
        """Adds the command's own options; `--out`, `--json` and `--verbose` are common to all."""

    def run(self, args: argparse.Namespace) -> dict[str, Any]:
        """Does the work; the result can be written as JSON. Raises DrpSlamError."""

    def show(self, result: dict[str, Any]) -> None:
        """Prints the result for people."""


def commands() -> dict[str, Command]:
    """All commands by name, in alphabetical order."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return {n.replace("_", "-"): cast(Command, importlib.import_module(f"{__name__}.{n}")) for n in names}
