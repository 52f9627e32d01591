# SPDX-License-Identifier: Apache-2.0
"""Graphs of real processes, each on a ROS domain of its own."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SEQUENCE = "synthetic:frames=40,width=320"
_DOMAINS = itertools.count(os.getpid() % 90 + 1)


@pytest.fixture
def graph_env() -> dict[str, str]:
    """Environment with a private ROS domain that stays on this host."""
    return {
        **os.environ,
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "ROS_DOMAIN_ID": str(next(_DOMAINS) % 100 + 1),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(
            Path(__file__).resolve().parents[2] / "config" / "fastdds.xml"
        ),
    }


@pytest.fixture(scope="session")
def small_room():
    """The synthetic sequence that the graphs play; rendered once."""
    from drp_slam.data.dataset import open_sequence

    return open_sequence(SEQUENCE)


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


@pytest.fixture
def command(graph_env) -> Iterator:
    """Starts commands; whatever still runs at the end of the test is ended."""
    started: list[Command] = []

    def start(*arguments: object) -> Command:
        started.append(Command([str(a) for a in arguments], graph_env))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(30)


@pytest.fixture
def listen(graph_env, monkeypatch) -> Iterator:
    """A node of the test on the graph's domain: `listen(type, topic, qos) -> list of messages`."""
    pytest.importorskip("rclpy")
    for name in graph_env:
        if name.startswith(("ROS_", "RMW_", "FASTRTPS_")):
            monkeypatch.setenv(name, graph_env[name])
    made = Listener(int(graph_env["ROS_DOMAIN_ID"]))
    yield made
    made.close()


class Listener:
    """Subscribes and publishes from the test's own process."""

    def __init__(self, domain: int) -> None:
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self._context = Context()
        self._context.init(args=[], domain_id=domain, initialize_logging=False)
        self.node = Node(
            "test_listener", context=self._context, use_global_arguments=False, enable_rosout=False
        )
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
