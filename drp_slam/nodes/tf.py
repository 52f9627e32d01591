# SPDX-License-Identifier: Apache-2.0
"""/tf and /tf_static beside other publishers: no frame gets a second parent."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from std_msgs.msg import Header

from drp_slam import geometry
from drp_slam.config import GraphConfig
from drp_slam.errors import GraphError
from drp_slam.nodes import convert, qos, world
from drp_slam.nodes.transforms import Mount, TransformTree, mounted
from drp_slam.slam.extrinsic import mount

if TYPE_CHECKING:
    from drp_slam.nodes.base import StageNode

MOUNT_WAIT_S = 2.0
"""How long to wait for the mount's transforms after another publisher of them has appeared."""
LOOK_S = 0.2
"""Period of looking for other publishers."""
REMEMBERED = 1000
"""Number of own transforms remembered, to recognise them when they are received."""


class Transforms:
    """Listens to /tf and publishes this node's transforms. Off where `tf2_msgs` is not installed."""

    def __init__(self, node: StageNode, graph: GraphConfig) -> None:
        """Raises ConfigError for a parameter `mount` that is not a pose."""
        self._node, self._graph = node, graph
        mount(graph.mount)
        self.tree = TransformTree(graph.frame_prefix)
        self._own: deque[tuple[str, int]] = deque(maxlen=REMEMBERED)
        self._own_static: set[tuple[str, str]] = set()
        self._reported: set[str] = set()
        self._others, self._since_s = 0, time.monotonic()
        self._mount: Mount | None = None
        self._mounted_for = ""
        self._tf, self._tf_static = self._publishers(node)

    def _publishers(self, node: StageNode) -> tuple[Any, Any]:
        """Publishers of /tf and /tf_static, or None twice."""
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            node.get_logger().info("tf2_msgs is not installed: no /tf (build it: .ci/tf2_msgs/build)")
            return None, None
        node.every(LOOK_S, self._look_out)
        self._listen = node.subscribe_later(TFMessage, "/tf", lambda message: self._on_tf(message, False), qos.world())
        node.subscribe(TFMessage, "/tf_static", lambda message: self._on_tf(message, True), qos.static_transforms())
        return (
            node.advertise(TFMessage, "/tf", qos.world(), local=False),
            node.advertise(TFMessage, "/tf_static", qos.latched(), local=False),
        )

    def _on_tf(self, message: Any, static: bool) -> None:
        if not static and self._of_a_second_graph(message):
            return
        for transform in message.transforms:
            child = transform.child_frame_id
            own = (child, convert.stamp_ns(transform.header)) in self._own
            if own or (static and (transform.header.frame_id, child) in self._own_static):
                continue
            try:
                self.tree.add(transform, static)
            except GraphError as error:
                self._tell(str(error))

    def _of_a_second_graph(self, message: Any) -> bool:
        """Whether another SLAM graph sent this: only a SLAM graph sends `map -> odom` and `odom -> base` in one
        message.

        Two graphs that mistook each other for wheel odometry would both stop publishing.
        """
        graph = self._graph
        if not (graph.publish_map_to_odom or graph.publish_odom_to_base):
            return False  # this node leaves them to whoever sends them
        base = self.tree.above(graph.base_frame, static=True)[-1]
        sent = {(t.header.frame_id, t.child_frame_id): convert.stamp_ns(t.header) for t in message.transforms}
        both = ((graph.map_frame, graph.odom_frame), (graph.odom_frame, base))
        if not all(edge in sent for edge in both) or all(
            (child, sent[parent, child]) in self._own for parent, child in both
        ):
            return False
        self._tell(
            f"tf: another SLAM graph publishes {graph.map_frame} -> {graph.odom_frame} -> {base} too; end one of them, "
            "or give each a namespace or a frame_prefix"
        )
        return True

    def mount(self, frame_id: str, stamp_ns: int) -> Mount | None:
        """The camera's mount; None while transforms of others may still arrive."""
        if self._mount is not None and self._mounted_for == frame_id:
            if self._mount.moving:
                again = mounted(self.tree, self._graph, frame_id, stamp_ns)
                self._mount = again if again.moving else self._mount
            return self._mount
        found = mounted(self.tree, self._graph, frame_id)
        self._look()
        if found.static and self._others and time.monotonic() - self._since_s < MOUNT_WAIT_S:
            return None
        self._mount, self._mounted_for = found, frame_id
        if found.problem:
            self._tell(found.problem)
        if found.static and self._tf_static is not None:
            self._own_static |= {(parent, child) for parent, child, _ in found.static}
            self._tf_static.publish(_message(convert.header(stamp_ns, "").stamp, found.static))
        return found

    def publish(self, stamp: Any, frames: world.Frames) -> None:
        """Publishes `map -> odom -> base` of one frame, except for transforms that others publish."""
        if self._tf is None:
            return
        graph, tree = self._graph, self.tree
        stamp_ns = convert.stamp_ns(Header(stamp=stamp))
        out: list[tuple[str, str, np.ndarray]] = []
        T_map_odom: np.ndarray | None = frames.T_map_odom
        base = tree.above(graph.base_frame, static=True)[-1]
        if graph.odom_frame in tree.above(graph.base_frame):
            # wheel odometry or a filter publishes odom -> base; this node publishes map -> odom
            if graph.publish_odom_to_base:
                self._tell(
                    f"tf: another node publishes {graph.odom_frame} -> {graph.base_frame}: this one does not; set "
                    "publish_odom_to_base: false"
                )
            T_odom_base = tree.lookup(graph.odom_frame, graph.base_frame, stamp_ns)
            T_map_base = frames.T_map_odom @ frames.T_odom_base
            T_map_odom = None if T_odom_base is None else T_map_base @ geometry.inverse(T_odom_base)
        elif graph.publish_odom_to_base:
            T_base_top = tree.lookup(graph.base_frame, base)
            if tree.parent(base) is not None:
                self._tell(f"tf: {base!r} already has the parent {tree.parent(base)!r}: no odometry on /tf")
            elif T_base_top is not None:
                out.append((graph.odom_frame, base, frames.T_odom_base @ T_base_top))
        if graph.publish_map_to_odom and (owner := tree.parent(graph.odom_frame)) is not None:
            self._tell(
                f"tf: another node publishes {owner} -> {graph.odom_frame}: this one does not; set "
                "publish_map_to_odom: false"
            )
        elif graph.publish_map_to_odom and T_map_odom is not None:
            out.append((graph.map_frame, graph.odom_frame, T_map_odom))
        if out:
            self._own.extend((child, stamp_ns) for _, child, _ in out)
            self._tf.publish(_message(stamp, tuple(out)))

    def _look_out(self) -> None:
        """Subscribes to /tf when another node publishes it: until then, this node would receive only its own."""
        self._look()
        if self._node.count_publishers("/tf") > 1:
            self._listen()

    def _look(self) -> None:
        """Counts the other publishers of transforms, and notes when a new one has appeared."""
        count = self._node.count_publishers
        others = count("/tf") + count("/tf_static") - 2 if self._tf is not None else 0
        if others > self._others:
            self._since_s = time.monotonic()
        self._others = others

    def _tell(self, problem: str) -> None:
        """Reports a problem once."""
        if problem not in self._reported:
            self._reported.add(problem)
            self._node.problem(problem)


def _message(stamp: Any, transforms: tuple[tuple[str, str, np.ndarray], ...]) -> Any:
    from tf2_msgs.msg import TFMessage

    return TFMessage(
        transforms=[world.transform(Header(stamp=stamp, frame_id=parent), child, T) for parent, child, T in transforms]
    )
