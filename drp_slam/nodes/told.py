# SPDX-License-Identifier: Apache-2.0
"""The doctor's findings as nodes report them on /diagnostics. No ROS is imported."""

from __future__ import annotations

from drp_slam.doctor.findings import Finding, worst_first


class Told:
    """The findings of each node that still hold: a node sends them behind its health, in one message."""

    def __init__(self) -> None:
        self._by_node: dict[str, dict[tuple[str, str], Finding]] = {}

    def health(self, node: str) -> None:
        """A node's health: what it found before no longer counts."""
        self._by_node[node] = {}

    def add(self, node: str, finding: Finding | None) -> None:
        """A finding, or None where one is gone."""
        if finding is not None:
            self._by_node.setdefault(node, {})[finding.key] = finding

    @property
    def findings(self) -> list[Finding]:
        """Those of all nodes, the worst first."""
        return worst_first(finding for own in self._by_node.values() for finding in own.values())
