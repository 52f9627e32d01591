# SPDX-License-Identifier: Apache-2.0
"""Graphs of real processes, each on a ROS domain of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from graphs import GUARD_S, SEQUENCE, Command, Listener, claim_domain, launch_command, up_options


@pytest.fixture
def graph_env() -> Iterator[dict[str, str]]:
    """Environment with a private ROS domain that stays on this host."""
    domain, claim = claim_domain()
    yield {
        **os.environ,
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    os.close(claim)


@pytest.fixture(scope="session")
def small_room():
    """The synthetic sequence that the graphs play; rendered once."""
    from drp_slam.data.dataset import open_sequence

    return open_sequence(SEQUENCE)


@pytest.fixture
def started() -> list[Command]:
    """The commands of a test."""
    return []


@pytest.fixture
def command(graph_env, started) -> Iterator:
    """Starts commands; whatever still runs at the end of the test is ended."""

    def start(*arguments: object, **options: object) -> Command:
        started.append(Command([str(a) for a in arguments], graph_env, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
            try:
                one.process.wait(GUARD_S)
            except subprocess.TimeoutExpired:
                one.process.kill()
                raise


@pytest.fixture(params=["up", "launch"])
def graph(request, command):
    """Starts a graph with launch arguments: by `python -m drp_slam up`, and by the real `ros2 launch`."""
    program = launch_command()
    if request.param == "launch" and not program:
        pytest.skip("needs ros2 launch, and this package installed for ROS")

    def start(**arguments: object) -> Command:
        if request.param == "up":
            return command("up", *up_options(arguments))
        file = "bag.launch.py" if "bag" in arguments else "slam.launch.py"
        return command(file, *(f"{name}:={value}" for name, value in arguments.items()), program=program)

    return start


@pytest.fixture
def four_nodes(graph_env, listen, tmp_path) -> Iterator:
    """The graph on a camera's topics, which the test publishes."""
    from drp_slam.config import Config
    from drp_slam.config.config_file import override
    from drp_slam.nodes.processes import Processes
    from drp_slam.nodes.table import nodes

    config = override(Config(), {"graph.out": str(tmp_path)})
    processes = Processes(nodes(config, player=False), tmp_path / "log", graph_env)
    processes.start()
    yield processes
    processes.kill()


@pytest.fixture
def listen(graph_env, started, monkeypatch) -> Iterator:
    """A node of the test on the graph's domain: `listen(type, topic, qos) -> list of messages`."""
    pytest.importorskip("rclpy")
    from drp_slam.nodes.table import transport

    for name in graph_env:
        if name.startswith(("ROS_", "RMW_")):
            monkeypatch.setenv(name, graph_env[name])
    for name, value in transport(sends_images=True, local=True).items():
        monkeypatch.setenv(name, value)
    made = Listener(int(graph_env["ROS_DOMAIN_ID"]), started)
    yield made
    made.close()
