# SPDX-License-Identifier: Apache-2.0
"""What the tests of running graphs share: the sequence, commands as processes, and a listener."""

from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEQUENCE = "synthetic:frames=40,width=320"
"""What the fixture `small_room` is."""
ALL = {"drp_node", "perception_node", "pose_node", "profiler_node", "player_node"}
DOMAINS = 101
"""Above 101, DDS's ports reach into those that Linux gives to anybody; 0 is a robot's."""
_NEXT = itertools.count(os.getpid())


def claim_domain() -> tuple[int, int]:
    """A ROS domain that no other test on this host has, and the file that holds it while open."""
    for domain in (number % DOMAINS + 1 for number in _NEXT):
        path = Path(tempfile.gettempdir(), f"drp_slam-domain-{domain}.lock")
        try:
            claim = os.open(path, os.O_CREAT | os.O_RDWR)
        except PermissionError:  # another user's
            continue
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return domain, claim
        except BlockingIOError:
            os.close(claim)
    raise AssertionError("unreachable")


class Command:
    """`python -m drp_slam ...` as a process."""

    def __init__(self, arguments: list[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "drp_slam", *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, timeout_s: float = 400.0) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        out, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, err


class Listener:
    """Subscribes and publishes from the test's own process."""

    def __init__(self, domain: int) -> None:
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self._context = Context()
        self._context.init(args=[], domain_id=domain, initialize_logging=False)
        self.node = Node("test_listener", context=self._context, use_global_arguments=False, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def __call__(self, kind, topic: str, qos) -> list:
        messages: list = []
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def until(self, condition, timeout_s: float = 400.0) -> None:
        """Spins until the condition holds; fails the test when it does not in time."""
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, "waited too long for the graph"
            self._executor.spin_once(0.05)

    def spin(self, seconds: float) -> None:
        """Handles messages for a while."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._executor.spin_once(0.05)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def ready(self, nodes: set[str] = ALL, frames: int = 0) -> dict[str, int]:
        """Process numbers of the nodes, once all are ready and `frames` have been tracked.

        A node that is heard here has, before, matched every subscription that was made before this
        call: DDS announces them in order. So none of what it sends from now on is missed.
        """
        from diagnostic_msgs.msg import DiagnosticArray

        from drp_slam.nodes import qos, status_codec

        found: dict[str, int] = {}
        tracked = 0
        heard = self(DiagnosticArray, "/diagnostics", qos.health())

        def done() -> bool:
            nonlocal tracked
            for status in (s for message in heard for s in message.status):
                name, _, part = status.name.partition(": ")
                values = status_codec.values_of(status)
                if part == "health" and values["ready"] == "1":
                    found[name] = int(values["pid"])
                    if name == "pose_node":
                        tracked = int(values["frames"])
            heard.clear()
            return nodes <= set(found) and tracked >= frames

        self.until(done)
        return found

    def play(self) -> None:
        """Lets a player that started paused go on, once everybody is ready."""
        from std_srvs.srv import SetBool

        self.ready()
        client = self.node.create_client(SetBool, "play")
        self.until(client.service_is_ready)
        answer = client.call_async(SetBool.Request(data=True))
        self.until(answer.done)
