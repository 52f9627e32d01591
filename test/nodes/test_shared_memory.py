# SPDX-License-Identifier: Apache-2.0
"""Fast DDS's files in shared memory: those of the dead go, those of the living stay."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from graphs import SEQUENCE

pytest.importorskip("rclpy")

from drp_slam.nodes.limits import DEAF
from drp_slam.nodes.shared_memory import (
    FOLDER,
    LOCK,
    NEEDED_MB,
    PARTICIPANTS,
    PROFILE,
    lacking_room,
    lost_port,
    mapped_ports,
    own_profile,
    remove_orphans,
    unused_participant,
)
from drp_slam.nodes.table import environment, transport


def made(folder: Path, *names: str) -> set[str]:
    for name in names:
        (folder / name).write_bytes(b"x")
    return set(names)


def test_only_unlocked_segments_are_removed(tmp_path: Path) -> None:
    dead = made(
        tmp_path,
        "fastrtps_0123456789abcdef",
        "fastrtps_0123456789abcdef_el",
        "fastdds_port7411",
        "fastdds_port7411_sl",
        "sem.fastdds_port7411_mutex",
    )
    alive = made(
        tmp_path,
        "fastrtps_fedcba9876543210",
        "fastrtps_fedcba9876543210_el",
        "fastrtps_port7413",
        "fastrtps_port7413_el",
        "sem.fastrtps_port7413_mutex",
    )
    others = made(tmp_path, "sem.other", "fastrtps_port7415", "fastrtps_0_el", "psm_1234_el")
    with (
        (tmp_path / "fastrtps_fedcba9876543210_el").open() as segment,
        (tmp_path / "fastrtps_port7413_el").open() as port,
    ):
        for held in (segment, port):
            fcntl.flock(held, fcntl.LOCK_EX)
        assert remove_orphans(tmp_path) == ["fastdds_port7411", "fastrtps_0123456789abcdef"]
        assert set(os.listdir(tmp_path)) == alive | others
        assert remove_orphans(tmp_path) == []
    assert dead.isdisjoint(os.listdir(tmp_path))


def test_no_shared_memory_is_no_error(tmp_path: Path) -> None:
    assert remove_orphans(tmp_path / "absent") == []


@pytest.mark.system
def test_a_living_participant_keeps_its_files(listen) -> None:
    """The rule holds for the Fast DDS that is installed: this process's own segment stays."""
    if not FOLDER.is_dir():
        pytest.skip("no /dev/shm here")
    held = [Path(os.path.realpath(file)) for file in Path("/proc/self/fd").iterdir()]
    locks = [p for p in held if p.parent == FOLDER and LOCK.fullmatch(p.name) and "port" not in p.name]
    assert locks
    remove_orphans()
    for lock in locks:
        assert lock.exists() and lock.with_name(lock.name.removesuffix("_el")).exists()


def test_a_port_that_any_process_has_mapped_is_not_taken(tmp_path: Path) -> None:
    """Removed files count: writers go on sending to them."""
    for pid, lines in (
        ("12", "/dev/shm/fastrtps_port7429 (deleted)\n"),
        ("13", "/dev/shm/fastdds_port7427\nx"),
        ("a", ""),
    ):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "maps").write_text(f"7f-80 rw-s 00000000 00:18 42   {lines}")
    (tmp_path / "14").mkdir()  # it has ended
    mapped = mapped_ports(tmp_path)
    assert mapped == {7427, 7429}
    pid = len(PARTICIPANTS) * 100  # begins at 8: port 7400 + 11 + 2 * 8
    assert unused_participant(0, set(), pid) == 8
    assert unused_participant(0, mapped, pid) == 10
    assert unused_participant(1, mapped, pid) == 8
    assert unused_participant(0, range(7400, 7600), pid) == 8


def test_a_profile_of_the_user_is_left_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(PROFILE, str(tmp_path / "fastdds.xml"))
    with own_profile():
        assert os.environ[PROFILE] == str(tmp_path / "fastdds.xml")
    monkeypatch.delenv(PROFILE)
    with own_profile():
        assert PROFILE not in os.environ


def test_a_profile_gets_a_participant_number(monkeypatch) -> None:
    for name, value in transport(sends_images=False, local=True).items():
        monkeypatch.setenv(name, value)
    given = os.environ[PROFILE]
    with own_profile():
        assert os.environ[PROFILE] != given
        assert "<participantID>" in Path(os.environ[PROFILE]).read_text()
        own = os.environ[PROFILE]
    assert os.environ[PROFILE] == given and not Path(own).exists()
    with own_profile("/proc/nowhere"):  # no place for temporary files
        assert os.environ[PROFILE] == given


RANGE, ONLY = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"


@pytest.mark.parametrize(
    ("given", "local", "wanted"),
    [
        ({}, True, {RANGE: "SYSTEM_DEFAULT"}),
        ({RANGE: "LOCALHOST"}, True, {RANGE: "SYSTEM_DEFAULT"}),  # the profile binds to loopback
        ({ONLY: "1"}, True, {RANGE: "SYSTEM_DEFAULT", ONLY: "0"}),
        ({RANGE: "SUBNET"}, True, {}),
        ({PROFILE: "mine.xml"}, True, {RANGE: "LOCALHOST"}),
        ({PROFILE: "mine.xml", RANGE: "SUBNET"}, True, {}),
        ({PROFILE: "mine.xml", ONLY: "1"}, True, {}),
        ({}, False, {}),
        ({RANGE: "LOCALHOST"}, False, {}),
        ({ONLY: "1"}, False, {}),
    ],
)
def test_a_recording_stays_on_this_host_unless_the_user_wants_more(monkeypatch, given, local, wanted) -> None:
    for name in (PROFILE, RANGE, ONLY):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert environment(local) == {
        "RMW_IMPLEMENTATION": os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"),
        **wanted,
    }


@pytest.mark.parametrize("home", ["", "/proc"])
def test_without_a_home_logs_go_to_the_folder_of_temporary_files(monkeypatch, home) -> None:
    monkeypatch.delenv("ROS_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    assert Path(environment(local=False)["ROS_LOG_DIR"]).parent == Path(tempfile.gettempdir())
    assert environment(local=False, logs=Path("out/log"))["ROS_LOG_DIR"] == "out/log"


@pytest.mark.system
def test_a_node_whose_port_was_removed_says_so_and_ends(graph_env, tmp_path) -> None:
    """What Fast DDS does at times to a newcomer that has the port of a killed process."""
    env = graph_env | environment(True) | transport(sends_images=False, local=True)
    with (tmp_path / "log").open("w") as log:
        node = subprocess.Popen([sys.executable, "-m", "drp_slam.nodes.profiler_node"], env=env, stderr=log)
    try:
        ports: set[Path] = set()
        end_s = time.monotonic() + 60
        while not ports:
            assert time.monotonic() < end_s
            time.sleep(0.2)
            locks = {Path(os.path.realpath(file)).name for file in Path(f"/proc/{node.pid}/fd").iterdir()}
            matches = [m[1] for name in locks if (m := LOCK.fullmatch(name)) and "port" in name]
            ports = {FOLDER / name for name in matches if int(name.rpartition("port")[2]) >= 7400}
        assert lost_port() == ""  # this process has none that is lost
        ports.pop().unlink()
        assert node.wait(60) == DEAF
    finally:
        node.kill()
        node.wait()
    assert "was removed from /dev/shm: this node receives nothing any more" in (tmp_path / "log").read_text()


def test_too_little_room_is_said_with_a_remedy(tmp_path: Path) -> None:
    free_mb = shutil.disk_usage(tmp_path).free / 1e6
    assert (free_mb < NEEDED_MB) == bool(lacking_room(tmp_path))
    assert "--shm-size" in lacking_room(tmp_path, needed_mb=2 * free_mb)
    assert lacking_room(tmp_path / "absent") == ""


@pytest.mark.system
def test_a_graph_fits_into_the_shared_memory_of_a_container(listen, command, small_room, tmp_path) -> None:
    """64 MB, for a graph and this listener: what they hold, counted by its maps."""
    up = command("up", "--sequence", SEQUENCE, "--rate", "1", "--loop", "--out", tmp_path)
    pids = [*listen.ready(frames=1).values(), up.process.pid, os.getpid()]
    files = {
        word
        for pid in pids
        for word in Path(f"/proc/{pid}/maps").read_text().split()
        if word.startswith(f"{FOLDER}/fast")
    }
    sizes = [Path(name).stat().st_size for name in files if Path(name).exists()]
    assert len(sizes) > len(pids)
    assert sum(sizes) < 64e6


@pytest.mark.system
@pytest.mark.parametrize("size", ["1m", "16m"])
def test_a_graph_with_too_little_shared_memory_does_without(graph_env, small_room, tmp_path, size):
    """In a mount namespace of its own; the shared memory is smaller than what one process would take."""
    mounted = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    command = [sys.executable, "-m", "drp_slam", "up", "--sequence", SEQUENCE, "--rate", "max", "--json"]
    env = {k: v for k, v in graph_env.items() if k != "ROS_AUTOMATIC_DISCOVERY_RANGE"}
    done = subprocess.run([*mounted, *command, "--out", str(tmp_path)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "images go through the network" in done.stderr.replace("\n", " ")
    assert json.loads(done.stdout)["tracked"] == len(small_room)


@pytest.mark.system
@pytest.mark.parametrize("local", [True, False])
def test_a_recording_listens_on_the_loopback_address_alone(graph_env, monkeypatch, local):
    """By what the node's process has open (/proc/net/udp: 0100007F is 127.0.0.1)."""
    monkeypatch.delenv(PROFILE, raising=False)  # this process's own
    monkeypatch.delenv(RANGE, raising=False)
    if local:
        monkeypatch.setenv(RANGE, "LOCALHOST")  # as a user sets it, who means just this
    env = {k: v for k, v in graph_env.items() if k not in (RANGE, PROFILE)}
    env |= environment(local) | transport(sends_images=False, local=local)
    node = subprocess.Popen([sys.executable, "-m", "drp_slam.nodes.profiler_node"], env=env)
    try:
        bound: set[str] = set()
        for _ in range(600):
            if bound := sockets(node.pid):
                time.sleep(0.5)
                bound = sockets(node.pid)
                break
            time.sleep(0.1)
        assert bound
        if local:
            told = {k: v for k, v in env.items() if k.startswith(("ROS", "RMW", "FAST"))}
            assert bound <= {"0100007F", "0100FFEF"}, told  # and the group 239.255.0.1, joined on it
        else:
            assert "00000000" in bound
    finally:
        node.send_signal(signal.SIGINT)
        node.wait(30)


def sockets(pid: int) -> set[str]:
    """Local addresses, in hexadecimal, of a process's UDP sockets."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[9] in inodes}
