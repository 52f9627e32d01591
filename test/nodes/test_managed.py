# SPDX-License-Identifier: Apache-2.0
"""Lifecycle: what a node has in which state, and what it says while it is not active."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

import numpy as np
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from drp_slam.data import image_codec
from drp_slam.errors import GraphError
from drp_slam.nodes import qos
from drp_slam.nodes.exchange import Exchange
from drp_slam.nodes.limits import INACTIVE
from drp_slam.nodes.managed import ManagedNode
from drp_slam.nodes.running import begun


class Echo(ManagedNode):
    """Publishes on `there` what comes on `here`."""

    def configure(self) -> None:
        self.refuse = getattr(self, "refuse", False)
        if self.refuse:
            raise GraphError("no map")
        self.out = self.advertise(Image, "there", qos.stage_in())
        self.subscribe(Image, "here", self.on, qos.stage_in())
        self.every(0.01, self.tick)
        self.ticks, self.finished, self.messages = 0, 0, []

    def on(self, message) -> None:
        self.messages.append(message)
        self.out.publish(message)

    def tick(self) -> None:
        self.ticks += 1

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def context(graph_env):
    made = Context()
    made.init(args=[], domain_id=int(graph_env["ROS_DOMAIN_ID"]), initialize_logging=False)
    yield made
    made.try_shutdown()


@pytest.fixture
def scene(context):
    """`scene(kind, ...)`: nodes that one executor spins; `scene.until(condition)`."""

    class Scene:
        def __init__(self) -> None:
            self.executor, self.nodes = SingleThreadedExecutor(context=context), []

        def __call__(self, kind, *args, **kwargs):
            self.nodes.append(kind(*args, context=context, **kwargs))
            self.executor.add_node(self.nodes[-1])
            return self.nodes[-1]

        def until(self, condition, turns=400) -> None:
            for _ in range(turns):
                if condition():
                    return
                self.executor.spin_once(0.05)
            raise AssertionError("waited too long")

        def call(self, node, kind, name, request):
            client = node.create_client(kind, name)
            self.until(client.service_is_ready)
            answer = client.call_async(request)
            self.until(answer.done)
            return answer.result()

    made = Scene()
    yield made
    made.executor.shutdown()
    for node in made.nodes:
        node.destroy_node()


def test_a_node_has_topics_and_timers_only_where_its_state_says_so(scene):
    echo, other = scene(Echo, "echo"), scene(Node, "other")
    heard = []
    other.create_subscription(Image, "there", heard.append, qos.stage_in())
    speak = other.create_publisher(Image, "here", qos.frames_out())

    def change(label):
        request = ChangeState.Request()
        request.transition.label = label
        return scene.call(other, ChangeState, "/echo/change_state", request).success

    def state():
        return scene.call(other, GetState, "/echo/get_state", GetState.Request()).current_state.label

    assert state() == "unconfigured" and not other.count_publishers("there")
    assert change("configure") and state() == "inactive"
    scene.until(lambda: other.count_publishers("there") == 1)
    assert not other.count_subscribers("here")  # no queue
    speak.publish(Image())
    echo.out.publish(Image())
    for _ in range(5):
        scene.executor.spin_once(0.02)
    assert not heard and not echo.messages and not echo.ticks
    assert change("activate") and state() == "active"
    scene.until(lambda: speak.get_subscription_count() == 1 and echo.out.get_subscription_count() == 1)
    speak.publish(Image(height=7))
    scene.until(lambda: heard and echo.ticks)
    assert [m.height for m in heard] == [7]
    assert change("deactivate") and state() == "inactive"
    scene.until(lambda: not other.count_subscribers("here"))
    ticks = echo.ticks
    assert change("activate")
    scene.until(lambda: echo.ticks > ticks)
    assert change("deactivate") and not echo.finished
    assert change("cleanup") and state() == "unconfigured" and echo.finished == 1
    scene.until(lambda: not other.count_publishers("there"))
    echo.refuse = True
    assert not change("configure") and state() == "unconfigured"
    with pytest.raises(GraphError, match="no map"):
        echo.start()
    echo.refuse = False
    assert change("configure") and change("activate")
    assert change("shutdown") and state() == "finalized" and echo.finished == 1
    echo.close()
    assert echo.finished == 1  # written once


def test_autostart_is_left_to_a_lifecycle_manager(scene):
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.parameter import Parameter

    from drp_slam.nodes.pose_node import PoseNode

    pose, other = scene(PoseNode, parameter_overrides=[Parameter("autostart", value=False)]), scene(Node, "other")
    health = []
    other.create_subscription(DiagnosticArray, "/diagnostics", health.append, qos.health())
    assert begun([pose]) == [pose] and not pose.configured
    pose.start()
    scene.until(lambda: health)
    assert pose.active
    pose.attempt(pose.trigger_deactivate)
    scene.until(lambda: health[-1].status[0].message == INACTIVE)
    health.clear()
    for _ in range(8):
        scene.executor.spin_once(0.2)
    assert not health


def test_nodes_of_one_process_hand_over_the_array_itself(context):
    exchange = Exchange()
    first, second = (
        Echo(f"echo{i}", exchange, context=context, cli_args=["--ros-args", "-r", f"{a}:={b}"])
        for i, (a, b) in enumerate((("there", "link"), ("here", "link")))
    )
    for node in (first, second):
        node.attempt(node.trigger_configure)
    for node in (first, second):
        node.attempt(node.trigger_activate)
    assert first.out.get_subscription_count() == 1
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = first.out.image(Header(frame_id="camera"), values, "mono8")
    first.out.publish(image)
    second.inbox.end()
    second.inbox.run()
    assert second.messages == [image]
    taken = image_codec.colour_of(second.messages[0], "image")
    assert np.shares_memory(taken, values) and not taken.flags.writeable
    sent = image.message()  # what an outsider gets
    assert np.array_equal(image_codec.colour_of(sent, "image"), values) and (sent.width, sent.encoding) == (4, "mono8")
    second.attempt(second.trigger_deactivate)
    assert not first.out.get_subscription_count()
    for node in (first, second):
        node.destroy_node()


class Late(Echo):
    """Listens on `aside` once it is told to."""

    def configure(self) -> None:
        super().configure()
        self.listen = self.subscribe_later(Image, "aside", self.on, qos.stage_in())


def test_a_subscription_that_begins_later(context):
    node = Late("late", context=context)
    try:
        node.start()
        assert node.count_subscribers("here") == 1 and node.count_subscribers("aside") == 0
        node.listen()
        node.listen()  # once is enough
        assert node.count_subscribers("aside") == 1
        node.trigger_deactivate()
        assert node.count_subscribers("aside") == 0
        node.trigger_activate()
        assert node.count_subscribers("aside") == 1
    finally:
        node.destroy_node()
