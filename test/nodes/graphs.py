# SPDX-License-Identifier: Apache-2.0
"""What the tests of running graphs share: the sequence, commands as processes, and a listener."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from drp_slam.nodes.camera_topics import CAMERA_TOPICS

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


PRODUCT = (sys.executable, "-m", "drp_slam")
OPTIONS = {"bag": "sequence"} | {name: f"{name}_topic" for name in (*CAMERA_TOPICS, "odometry", "imu")}
"""Launch arguments that `up` has under another name."""


def up_options(arguments: dict[str, object]) -> list[str]:
    """Launch arguments as options of `up`."""
    out: list[str] = []
    for name, value in arguments.items():
        if name == "mode":
            out += ["--localise"] if value == "localisation" else []
        elif name == "autostart":
            out += ["--set", f"autostart={value}"]
        elif value == "true":
            out.append(f"--{name}".replace("_", "-"))
        else:
            out += [f"--{OPTIONS.get(name, name)}".replace("_", "-"), str(value)]
    return out


def launch_command() -> list[str]:
    """`ros2 launch drp_slam`, or an empty list where it is not installed together with this package."""
    try:
        from ament_index_python.packages import get_package_prefix

        get_package_prefix("drp_slam")
    except (ImportError, LookupError, OSError):
        return []
    ros2 = shutil.which("ros2")
    return [ros2, "launch", "drp_slam"] if ros2 else []


RESULTS = ("trajectory.txt", "odometry.txt", "groundtruth.txt", "map.ply", "spans.csv", "frames.csv", "run.json")
"""What every graph leaves that played a recording, however it ended."""
DEAF_S = 40.0
"""A listener that has not heard all nodes within this time joins the domain anew."""
GUARD_S = 120.0
"""A guard against hanging, not a measurement: hosts of continuous integration are starved at times."""


class Command:
    """A command as a process, by default `python -m drp_slam ...`."""

    def __init__(self, arguments: list[str], env: dict[str, str], program: Sequence[str] = PRODUCT) -> None:
        self.launched = tuple(program) != PRODUCT
        self.arguments, self.awaited = arguments, False
        self.process = subprocess.Popen(
            [*program, *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, timeout_s: float = 400.0) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self.awaited = True
        out, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, err

    def failed(self) -> bool:
        """Whether it has ended by itself with an error that nobody has asked for yet."""
        return not self.awaited and (self.process.poll() or 0) > 0

    def last_words(self) -> str:
        """Ends it; how it ended, what it said, and the ends of its nodes' logs."""
        self.process.send_signal(signal.SIGINT)
        try:
            code, out, err = self.finish(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code, out, err = self.finish(30)
        words = [" ".join(self.arguments), f"exit code {code}", out[-2000:], err[-2000:]]
        if "--out" in self.arguments:
            words.append(logs(Path(self.arguments[self.arguments.index("--out") + 1], "log")))
        return "\n".join(words)

    def interrupt(self, restarted: int = 0) -> str:
        """Ends a graph by Ctrl-C; asserts that all nodes but those restarted ended with exit code 0. What it said."""
        self.process.send_signal(signal.SIGINT)
        return self.ended(restarted)

    def ended(self, restarted: int = 0) -> str:
        """Waits for the end of a graph and asserts the exit codes of all its processes; what it said."""
        code, out, err = self.finish()
        said = out + err
        assert code == 0, said
        if self.launched:  # `up` itself ends with 1 where a node does
            started, clean = said.count("process started with pid"), said.count("process has finished cleanly")
            assert started and clean == started - restarted, said
        return said


def logs(folder: Path) -> str:
    """The ends of the nodes' logs."""
    return "\n".join(
        f"{path.name}: {path.read_text(errors='replace')[-1000:]}" for path in sorted(folder.glob("*.log"))
    )


class Listener:
    """Subscribes and publishes from the test's own process. `commands` are those whose failure ends the waiting."""

    def __init__(self, domain: int, commands: Sequence[Command] = ()) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        from drp_slam.nodes import qos

        self._domain, self._commands, self._health = domain, commands, {}
        self._taken = [(DiagnosticArray, "/diagnostics", self._note, qos.health())]
        self._connect()

    def _connect(self) -> None:
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self._context = Context()
        self._context.init(args=[], domain_id=self._domain, initialize_logging=False)
        self.node = Node("test_listener", context=self._context, use_global_arguments=False, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        for taken in self._taken:
            self.node.create_subscription(*taken)

    def _note(self, message) -> None:
        from drp_slam.nodes import status_codec

        for status in message.status:
            self._health[status.name] = f"{status.message}; {status_codec.values_of(status)}"

    def __call__(self, kind, topic: str, qos) -> list:
        messages: list = []
        self._taken.append((kind, topic, messages.append, qos))
        self.node.create_subscription(*self._taken[-1])
        return messages

    def until(self, condition, timeout_s: float = GUARD_S) -> None:
        """Spins until the condition holds; fails the test when it does not in time, or a command has failed."""
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end_s or any(c.failed() for c in self._commands):
                self._give_up(f"waited {timeout_s + time.monotonic() - end_s:.0f} s for the graph")
            self._executor.spin_once(0.05)

    def _give_up(self, why: str) -> None:
        """Fails the test with all that is known of the graph."""
        names = [f"{space}{name}" for name, space in self.node.get_node_names_and_namespaces()]
        heard = [f"{name}: {words}" for name, words in self._health.items()]
        told = [c.last_words() for c in self._commands if not c.awaited]
        load = " ".join(f"{one:.1f}" for one in os.getloadavg())
        raise AssertionError("\n".join([f"{why}, load {load}", f"nodes: {sorted(names)}", "heard:", *heard, *told]))

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
        call: DDS announces them in order. So none of what it sends from now on is missed. A listener that does not
        hear all nodes joins the domain anew: `up` sees to its own processes, but not to this one.
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
                        tracked = int(values["tracked"])
            heard.clear()
            return nodes <= set(found) and tracked >= frames

        end_s = time.monotonic() + GUARD_S
        while not done():
            if time.monotonic() > end_s:
                self._give_up(f"waited {GUARD_S:.0f} s for the graph")
            until_s = time.monotonic() + DEAF_S
            self.until(lambda until_s=until_s: done() or time.monotonic() > until_s)
            if not nodes <= {name.partition(": ")[0] for name in self._health}:
                self.close()
                self._connect()
        return found

    def play(self, *namespaces: str) -> None:
        """Lets players that started paused go on, once everybody is ready; without namespaces that of the root."""
        from std_srvs.srv import SetBool

        prefixes = [f"{namespace}/" for namespace in namespaces] or [""]
        self.ready({prefix + node for prefix in prefixes for node in ALL})
        for prefix in prefixes:
            client = self.node.create_client(SetBool, f"{prefix}play")
            self.until(client.service_is_ready)
            answer = client.call_async(SetBool.Request(data=True))
            self.until(answer.done)
