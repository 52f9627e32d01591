# SPDX-License-Identifier: Apache-2.0
"""Findings that nodes report on /diagnostics. No ROS is imported."""

from __future__ import annotations

from drp_slam.doctor.findings import Finding, worst_first


class NodeFindings:
    """The current findings of each node: a node sends them after its health, in one message."""

    def __init__(self) -> None:
        self._by_node: dict[str, dict[tuple[str, str], Finding]] = {}

    def health(self, node: str) -> None:
        """A node's health arrived: its previous findings are replaced."""
        self._by_node[node] = {}

    def add(self, node: str, finding: Finding | None) -> None:
        """A finding arrived, or None if one is gone."""
        if finding is not None:
            self._by_node.setdefault(node, {})[finding.key] = finding

    @property
    def findings(self) -> list[Finding]:
        """The findings of all nodes, the worst first."""
        return worst_first(finding for own in self._by_node.values() for finding in own.values())
