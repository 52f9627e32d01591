# SPDX-License-Identifier: Apache-2.0
"""Logs findings: once when a fault appears or gets worse, once when it is gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from drp_slam.doctor.checks import Level
from drp_slam.doctor.findings import Finding


class Announcer:
    """Logs changes of the findings. `log` has `info`, `warning` and `error`."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._open: dict[tuple[str, str], Finding] = {}

    def changes(self, findings: Iterable[Finding]) -> list[tuple[Finding, bool]]:
        """Logs what changed; returns the findings, and with True those of the last call that are gone."""
        now = {finding.key: finding for finding in findings}
        gone = [finding for key, finding in self._open.items() if key not in now]
        for finding in now.values():
            before = self._open.get(finding.key)
            if before is None or finding.level > before.level:
                self._say(finding)
        for finding in gone:
            self._log.info(f"{finding.where}: {finding.check.name} is no longer seen")
        self._open = now
        return [(finding, False) for finding in now.values()] + [(finding, True) for finding in gone]

    def _say(self, finding: Finding) -> None:
        """One call per severity: rclpy refuses two severities from one line of code."""
        if finding.level is Level.ERROR:
            self._log.error(finding.line)
        elif finding.level is Level.WARN:
            self._log.warning(finding.line)
        else:
            self._log.info(finding.line)
