# SPDX-License-Identifier: Apache-2.0
"""The tree of frames published by others on /tf and /tf_static, and the camera's mount in it.

tf2's Python package comes only with a ROS install; this implements the part that the mount needs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from geometry_msgs.msg import TransformStamped

from drp_slam import geometry
from drp_slam.config import GraphConfig
from drp_slam.errors import GraphError
from drp_slam.nodes import convert
from drp_slam.slam.extrinsic import T_LINK_OPTICAL, mount

HISTORY = 500
"""Number of poses kept for a moving frame: 5 s at 100 Hz."""
STALE_NS = 500_000_000
"""The last pose of a moving frame is used for stamps up to this much later."""


@dataclass
class Edge:
    """A frame below its parent; `stamps_ns` is empty for a static one, which has one pose."""

    parent: str
    static: bool
    stamps_ns: deque[int] = field(default_factory=lambda: deque(maxlen=HISTORY))
    T_parent_child: deque[np.ndarray] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def at(self, stamp_ns: int | None) -> np.ndarray | None:
        """The pose at a stamp, interpolated; without a stamp the last one; None where it is unknown."""
        if self.static or stamp_ns is None:
            return self.T_parent_child[-1]
        after = bisect_left(self.stamps_ns, stamp_ns)
        if after == len(self.stamps_ns):
            return self.T_parent_child[-1] if stamp_ns - self.stamps_ns[-1] <= STALE_NS else None
        if self.stamps_ns[after] == stamp_ns:
            return self.T_parent_child[after]
        if after == 0:
            return None
        t0, t1 = self.stamps_ns[after - 1], self.stamps_ns[after]
        T0, T1 = self.T_parent_child[after - 1], self.T_parent_child[after]
        share = (stamp_ns - t0) / (t1 - t0)
        return geometry.exp(share * geometry.log(T1 @ geometry.inverse(T0))) @ T0


class TransformTree:
    """A tree with one parent per frame: the latest one, as in tf2. `prefix` is that of this robot's frames."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._edges: dict[str, Edge] = {}
        self._known: set[str] = set()

    def name(self, frame_id: str) -> str:
        """The tree's name of a frame in a message: with the prefix, unless only the name without it is known."""
        plain = frame_name(frame_id)
        if not plain or plain.startswith(self._prefix):
            return plain
        own = self._prefix + plain
        return plain if plain in self._known and own not in self._known else own

    def add(self, message: TransformStamped, static: bool) -> None:
        """Adds one transform. Raises GraphError for those that tf2 refuses too."""
        parent, child = frame_name(message.header.frame_id), frame_name(message.child_frame_id)
        t, q = message.transform.translation, message.transform.rotation
        numbers = np.array([t.x, t.y, t.z, q.x, q.y, q.z, q.w])
        if not parent or not child or parent == child:
            raise GraphError(f"tf: transform from {parent!r} to {child!r}: expected two different frames")
        if not np.isfinite(numbers).all() or abs(np.linalg.norm(numbers[3:]) - 1.0) > 0.01:
            raise GraphError(f"tf: {parent} to {child} has no finite translation and unit quaternion; it is ignored")
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = geometry.rotation(numbers[3:]), numbers[:3]
        stamp_ns = convert.stamp_ns(message.header)
        edge = self._edges.get(child)
        if edge is None or edge.parent != parent or edge.static != static:
            edge = self._edges[child] = Edge(parent, static)
        elif not static and edge.stamps_ns and stamp_ns <= edge.stamps_ns[-1]:
            if edge.stamps_ns[-1] - stamp_ns < STALE_NS:
                return  # late or repeated
            edge.stamps_ns.clear()  # the clock was set back
            edge.T_parent_child.clear()
        self._known |= {parent, child}
        edge.T_parent_child.append(T)
        if not static:
            edge.stamps_ns.append(stamp_ns)

    def parent(self, frame: str) -> str | None:
        """The frame above, or None."""
        edge = self._edges.get(frame)
        return None if edge is None else edge.parent

    def above(self, frame: str, static: bool = False) -> list[str]:
        """The frame and its ancestors up to the root; `static`: only across static transforms."""
        out = [frame]
        while (edge := self._edges.get(out[-1])) is not None and edge.parent not in out and (edge.static or not static):
            out.append(edge.parent)
        return out

    def moves(self, target: str, source: str) -> bool:
        """Whether one of the transforms between two frames may change."""
        return self.above(target, static=True)[-1] != self.above(source, static=True)[-1]

    def lookup(self, target: str, source: str, stamp_ns: int | None = None) -> np.ndarray | None:
        """(4, 4) `T_target_source`, or None where no path joins the frames at that stamp."""
        up, down = self.above(target), self.above(source)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            return None
        T_common_target = self._product(up[: up.index(common)], stamp_ns)
        T_common_source = self._product(down[: down.index(common)], stamp_ns)
        if T_common_target is None or T_common_source is None:
            return None
        return geometry.inverse(T_common_target) @ T_common_source

    def _product(self, frames: list[str], stamp_ns: int | None) -> np.ndarray | None:
        T = np.eye(4)
        for frame in frames:
            step = self._edges[frame].at(stamp_ns)
            if step is None:
                return None
            T = step @ T
        return T


@dataclass(frozen=True)
class Mount:
    """The camera's mount: `T_base_link` (4, 4) of a body frame (x forward) at the camera's optical centre.

    `static` are the transforms (parent, child, T) to publish, since no node does yet; `moving`: look up
    the transform for each frame from `frame`; `problem` is the problem to report, or empty.
    """

    T_base_link: np.ndarray
    static: tuple[tuple[str, str, np.ndarray], ...] = ()
    moving: bool = False
    problem: str = ""


def mounted(tree: TransformTree, graph: GraphConfig, frame_id: str, stamp_ns: int | None = None) -> Mount:
    """The mount of the camera whose images have `frame_id`: from the tree, else by the parameter `mount`.

    No frame gets a second parent: where a driver publishes its own tree that does not reach
    `base_frame`, the base becomes the parent of that tree's root.
    """
    base, link, T_mount = graph.base_frame, graph.camera_frame, mount(graph.mount)
    frame, problem = tree.name(frame_id), ""
    if frame in ("", base, graph.odom_frame, graph.map_frame):
        problem = (
            f"image: frame_id is {frame_id!r}, which names no camera; {link!r} is used: set the driver's frame_id "
            "to the camera's optical frame"
        )
        frame = link
    optical = T_LINK_OPTICAL if frame != link else np.eye(4)
    T_base_frame = tree.lookup(base, frame, stamp_ns)
    if T_base_frame is not None:
        return Mount(T_base_frame @ geometry.inverse(optical), moving=tree.moves(base, frame), problem=problem)
    # find the camera's existing frames, and the missing link between the base and them
    static: list[tuple[str, str, np.ndarray]] = []
    T_link_frame = tree.lookup(link, frame)
    if tree.parent(frame) is None and frame != link:
        static, T_link_frame = [(link, frame, optical)], optical
    T_base_link = tree.lookup(base, link)
    if T_base_link is None or T_link_frame is None:
        # attach the driver's tree to the base, or to the camera's link if that is attached already
        anchor, T_anchor = (base, T_mount) if T_base_link is None else (link, np.eye(4))
        top = tree.above(link if T_link_frame is not None else frame, static=True)[-1]
        T_top_link = tree.lookup(top, link) if T_base_link is None else None
        if tree.parent(top) is not None:
            problem = problem or (
                f"tf: {top!r} moves below {tree.parent(top)!r}, so {anchor!r} cannot become its parent; the parameter "
                "mount is used without publishing it"
            )
            return Mount(T_mount, problem=problem)
        T_anchor_top = T_anchor if T_top_link is None else T_anchor @ geometry.inverse(T_top_link)
        static.insert(0, (anchor, top, T_anchor_top))
        T_top_frame = tree.lookup(top, frame)
        if T_top_frame is None:  # published by this node, below the link
            assert T_top_link is not None and T_link_frame is not None
            T_top_frame = T_top_link @ T_link_frame
        T_base_frame = (np.eye(4) if T_base_link is None else T_base_link) @ T_anchor_top @ T_top_frame
    else:
        T_base_frame = T_base_link @ T_link_frame
    if not graph.publish_mount:
        problem = problem or f"tf: no transform from {base!r} to {frame!r}; the parameter mount is used"
        static = []
    return Mount(T_base_frame @ geometry.inverse(optical), tuple(static), problem=problem)


def frame_name(text: str) -> str:
    """A frame's name for tf2: without ROS 1's leading slash and surrounding blanks."""
    return text.strip().lstrip("/")
