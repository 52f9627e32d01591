# SPDX-License-Identifier: Apache-2.0
"""Results of the checks: a fault, its place and the measurement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from drp_slam.doctor.checks import CHECKS, Check, Level

CAUSES = {
    "unregistered": {"unsynchronised", "stamps_zero", "dark", "overexposed", "textureless", "frozen"},
    "wrong_calibration": {"unsynchronised", "stamps_zero", "unregistered", "depth_unit", "ir_dots", "frozen"},
}
"""Check -> others that cause it to fail."""


@dataclass(frozen=True)
class Finding:
    """A fault that was found. `where` is a topic, a file or a node; `seen` is the measurement with its limit."""

    check: Check
    where: str
    seen: str
    level: Level

    @property
    def key(self) -> tuple[str, str]:
        """Identity of the fault, independent of its numbers."""
        return self.check.name, self.where

    @property
    def line(self) -> str:
        """The measurement and the remedy in one line."""
        return f"{self.where}: {self.seen}; {self.check.remedy}"

    def values(self) -> dict[str, str]:
        """As key values for /diagnostics and JSON."""
        return {
            "check": self.check.name,
            "level": self.level.name,
            "where": self.where,
            "seen": self.seen,
            "why": self.check.why,
            "remedy": self.check.remedy,
        }


def found(name: str, where: str, seen: str, level: Level | None = None) -> Finding:
    """A finding of the check `name`, at its usual level unless another one is given."""
    check = CHECKS[name]
    return Finding(check, where, seen, check.level if level is None else level)


def finding_from(values: Mapping[str, str]) -> Finding:
    """The inverse of `Finding.values`; an unknown level is a note. Raises KeyError for an unknown check."""
    level = Level.__members__.get(values.get("level", ""), Level.NOTE)
    return Finding(CHECKS[values["check"]], values.get("where", ""), values.get("seen", ""), level)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors before warnings before notes; of each key only the worst; without consequences of others (`CAUSES`)."""
    by_key: dict[tuple[str, str], Finding] = {}
    for finding in sorted(findings, key=lambda f: -f.level):
        by_key.setdefault(finding.key, finding)
    names = {name for name, _ in by_key}
    return [finding for finding in by_key.values() if not names & CAUSES.get(finding.check.name, set())]
