# SPDX-License-Identifier: Apache-2.0
"""One number of a device model, with its unit and its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """One number of a device model. `source` is a citation, `fitted ...` or `assumed ...`.

    `low` and `high` are the interval in which the value is assumed to be: its own `range` or `factor` in the
    file (`stated`), else the factor of its kind (`ranges`).
    """

    key: str
    value: float
    unit: str
    source: str
    low: float = float("nan")
    high: float = float("nan")
    stated: bool = False

    @property
    def kind(self) -> str:
        """`cited`, `fitted` or `assumed`."""
        first = self.source.split(maxsplit=1)[0].rstrip(":;,.").lower()
        return first if first in ("fitted", "assumed") else "cited"
