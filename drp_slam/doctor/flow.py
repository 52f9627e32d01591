# SPDX-License-Identifier: Apache-2.0
"""Where a running graph loses frames, from the counts of its nodes, and whether the host is too busy."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drp_slam.doctor.findings import Finding, found

WINDOW_S = 10.0
LEAST = 20
"""Minimum number of images."""
MOST_LOST = 0.5
"""Live, the newest frame wins and others are dropped: tracking tolerates every other frame missing, not more."""
BUSY = 0.95


@dataclass(frozen=True)
class Counts:
    """Counts of the nodes: images received and frames done since their start. `busy_s`, `all_s`: CPU time of the
    host, of all cores, so far."""

    at_s: float
    received: Mapping[str, int]
    frames: Mapping[str, int]
    busy_s: float = 0.0
    all_s: float = 0.0


STEPS = (
    ("drp_node", "received", "drp_node takes them (its queue holds the newest only)"),
    ("perception_node", "frames", "perception_node"),
    ("drp_node", "frames", "drp_node, after the network"),
    ("pose_node", "frames", "pose_node"),
)
"""The path of a frame: node, its counter, and the step in words."""


class Flow:
    """Keeps the counts of the last ten seconds. Call `note` with the health of each node, `findings` once a second."""

    def __init__(self) -> None:
        self._received: dict[str, int] = {}
        self._frames: dict[str, int] = {}
        self._kept: deque[Counts] = deque()

    def note(self, node: str, values: Mapping[str, str]) -> None:
        """A node's values on /diagnostics; non-numbers are ignored: any node may publish there."""
        for key, store in (("received_image", self._received), ("frames", self._frames)):
            if values.get(key, "").isdecimal():
                store[node] = int(values[key][:18])

    def findings(self, now_s: float) -> list[Finding]:
        """Findings of the last `WINDOW_S`; none before that time has passed."""
        if not self._frames.get("pose_node"):  # at start, nodes drop messages until the others are ready
            return []
        self._kept.append(Counts(now_s, dict(self._received), dict(self._frames), *cpu_times()))
        while len(self._kept) > 1 and self._kept[1].at_s <= now_s - WINDOW_S:
            self._kept.popleft()
        return check_flow(self._kept[0], self._kept[-1]) if self._kept[0].at_s <= now_s - WINDOW_S else []


def check_flow(before: Counts, now: Counts) -> list[Finding]:
    """Whether fewer than half of the images are tracked, and at which step most are lost."""
    images = max((_rise(before.received, now.received, node) or 0 for node in now.received), default=0)
    counts = [(words, _rise(getattr(before, what), getattr(now, what), node)) for node, what, words in STEPS]
    known = [("the camera", images), *((words, count) for words, count in counts if count is not None)]
    # the detector gets every n-th image: it is not a step of a frame's path
    known = [step for i, step in enumerate(known) if "perception" not in step[0] or step[1] >= known[i + 1][1]]
    tracked = known[-1][1]
    if images < LEAST or len(known) < 2 or counts[-1][1] is None or tracked >= MOST_LOST * images:
        return []
    lost, step = max((a - b, words) for (_, a), (words, b) in itertools.pairwise(known))
    seconds = now.at_s - before.at_s
    seen = (
        f"{tracked} of {images} images in {seconds:.0f} s are tracked ({tracked / seconds:.1f} of "
        f"{images / seconds:.1f} Hz); {lost} are lost before {step}"
    )
    out = [found("frames_dropped", "graph", seen)]
    share = (now.busy_s - before.busy_s) / max(now.all_s - before.all_s, 1e-9)
    if share > BUSY:
        out.append(found("cpu_overload", "host", f"all cores are {share:.0%} busy (limit {BUSY:.0%})"))
    return out


def _rise(before: Mapping[str, int], now: Mapping[str, int], node: str) -> int | None:
    """Increase of a node's counter; None if the node is new or was restarted."""
    if node not in before or node not in now or now[node] < before[node]:
        return None
    return now[node] - before[node]


def cpu_times(path: Path = Path("/proc/stat")) -> tuple[float, float]:
    """CPU time of all cores, busy and total, in ticks; zeros if the host does not provide it."""
    try:
        ticks = [float(word) for word in path.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return 0.0, 0.0
    return sum(ticks) - sum(ticks[3:5]), sum(ticks)
