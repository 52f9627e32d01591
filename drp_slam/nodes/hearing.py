# SPDX-License-Identifier: Apache-2.0
"""Which nodes run but hear nothing, by what all of them say of themselves on /diagnostics. No ROS is imported."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from drp_slam.nodes.limits import INACTIVE

PEERS = {
    ("drp_node", "image"): ("player_node", "frames"),
    ("perception_node", "tensor"): ("drp_node", "frames"),
    ("drp_node", "heads"): ("perception_node", "frames"),
    ("pose_node", "features"): ("drp_node", "frames"),
    ("profiler_node", "status"): ("pose_node", "frames"),
    **{
        ("player_node", f"/diagnostics of {node}"): (node, "beats")
        for node in ("drp_node", "perception_node", "pose_node", "profiler_node")
    },
}
"""Node and what it hears -> who publishes it, and the count of that node that grows with each message."""
BEATS, FRAMES = 10, 10
"""A node is deaf that has reported its health so often, once a second, while its peer has sent so many messages."""
UNREADY = 20
"""A node has not found another one that has reported its health so often without being ready, while the others did."""


class Hearing:
    """Watches the nodes' health: `update` with each report that arrives, `deaf` for those that hear nothing.

    A busy node reports no health either, so it is not mistaken for a deaf one, however busy the host is.
    """

    def __init__(self) -> None:
        self._health: dict[str, Mapping[str, str]] = {}
        self._marks: dict[tuple[str, str], tuple[tuple[str, ...], int, int]] = {}
        self._began: dict[str, int] = {}
        self._waits: dict[str, int] = {}
        self._together: tuple[str, ...] = ()

    def update(self, health: Mapping[str, Mapping[str, str]]) -> None:
        """The last values of some or all nodes."""
        self._health.update(health)

    def deaf(self) -> dict[str, str]:
        """Node that hears nothing -> peer that publishes, and where. A topic that a node does not take says nothing."""
        found = {}
        for (node, topic), (peer, count) in PEERS.items():
            own, other = self._health.get(node, {}), self._health.get(peer, {})
            if f"heard_{topic}" not in own:
                continue
            same = (own.get("pid", ""), own.get(f"heard_{topic}", ""), other.get("pid", ""))
            beats, frames = whole(own.get("beats")), whole(other.get(count))
            mark = self._marks.get((node, topic))
            if mark is None or mark[0] != same or beats < mark[1] or frames < mark[2]:
                self._marks[node, topic] = (same, beats, frames)
            elif beats - mark[1] >= BEATS and frames - mark[2] >= FRAMES:
                found[node] = f"{peer} publishes {topic}"
        return found

    def lonely(self, nodes: Collection[str]) -> set[str]:
        """Of all the graph's `nodes`, those that wait for others although all of them run: they do not find each other.

        Begins to count anew when one of them is started again, or is deactivated, since others wait for it then.
        """
        pids = tuple(self._health.get(node, {}).get("pid", "") for node in sorted(nodes))
        beats = {node: whole(self._health.get(node, {}).get("beats")) for node in nodes}
        inactive = any(self._health.get(node, {}).get("message") == INACTIVE for node in nodes)
        if pids != self._together or not all(pids) or inactive:
            self._together, self._began, self._waits = pids, beats, dict(beats)
        if not nodes or min(beats[node] - self._began[node] for node in nodes) < UNREADY:
            return set()
        self._waits |= {node: beats[node] for node in nodes if self._health[node].get("ready") == "1"}
        return {node for node in nodes if beats[node] - self._waits[node] >= UNREADY}


def whole(text: str | None) -> int:
    """A count, or 0 for anything else that somebody published."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 19 else 0
