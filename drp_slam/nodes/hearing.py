# SPDX-License-Identifier: Apache-2.0
"""Which nodes run but hear nothing, by what all of them say of themselves on /diagnostics. No ROS is imported."""

from __future__ import annotations

from collections.abc import Mapping

PEERS = {"drp_node": "player_node", "perception_node": "drp_node", "pose_node": "drp_node"}
"""Node -> who sends it messages for each frame."""
BEATS, FRAMES = 20, 20
"""A node is deaf that has reported its health so often, once a second, while its peer has sent so many frames."""


class Hearing:
    """Watches the nodes' health: `update` with each report that arrives, `deaf` for those that hear nothing.

    A busy node reports no health either, so it is not mistaken for a deaf one.
    """

    def __init__(self) -> None:
        self._health: dict[str, Mapping[str, str]] = {}
        self._marks: dict[str, tuple[tuple[str, ...], int, int]] = {}

    def update(self, health: Mapping[str, Mapping[str, str]]) -> None:
        """The last values of some or all nodes."""
        self._health.update(health)

    def deaf(self) -> dict[str, str]:
        """Node that hears nothing -> peer that publishes."""
        found = {}
        for node, peer in PEERS.items():
            own, other = self._health.get(node, {}), self._health.get(peer, {})
            same = (own.get("pid", ""), own.get("heard", ""), other.get("pid", ""))
            beats, frames = whole(own.get("beats")), whole(other.get("frames"))
            mark = self._marks.get(node)
            if mark is None or mark[0] != same or beats < mark[1] or frames < mark[2]:
                self._marks[node] = (same, beats, frames)
            elif beats - mark[1] >= BEATS and frames - mark[2] >= FRAMES:
                found[node] = peer
        return found


def whole(text: str | None) -> int:
    """A count, or 0 for anything else that somebody published."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 19 else 0
