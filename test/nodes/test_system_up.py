# SPDX-License-Identifier: Apache-2.0
"""`python -m drp_slam up`: real processes over real DDS, from the first frame to the report."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from graphs import RESULTS, SEQUENCE
from nav_msgs.msg import Odometry

from drp_slam import resources
from drp_slam.data.synthetic import cache_folder, parse
from drp_slam.data.trajectory import read_tum, write_tum
from drp_slam.nodes import qos
from drp_slam.nodes.shared_memory import remove_orphans
from drp_slam.reporting import folder

pytestmark = pytest.mark.system


def test_graph_gives_what_the_offline_run_gives(command, listen, small_room, tmp_path):
    """On a chip under another name, with a prior of the motion, and one depth image cut short."""
    odometry = listen(Odometry, "odom", qos.world())
    sequence, count = tmp_path / "broken", len(small_room) - 1
    shutil.copytree(cache_folder(parse(SEQUENCE)), sequence)
    depth = sorted((sequence / "depth").iterdir())[12]
    depth.write_bytes(depth.read_bytes()[:200])
    chip = shutil.copy(resources.device_file("rzv2h"), tmp_path / "mine.yaml")
    write_tum(tmp_path / "wheels.txt", small_room.ground_truth)
    prior = ("--prior", tmp_path / "wheels.txt", "--set", "slam.prior_frame=camera")
    options = ("--device", chip, "--json", *prior)
    up = command(
        "up", "--sequence", sequence, "--rate", "max", "--set", "player.paused=true", *options, "--out", tmp_path / "up"
    )
    listen.play()
    listen.until(lambda: up.process.poll() is not None)
    code, out, err = up.finish()
    assert code == 0, err
    report = json.loads(out)
    assert report["frames"] == count == len(folder.read_frames(tmp_path / "up/frames.csv"))
    about = folder.read_run(tmp_path / "up")
    assert about["frames_skipped"] == 1 and any("1 unreadable frames" in words for words in about["warnings"])
    assert report["fps"] > 0 and set(report["stages"]) == {"preprocess", "network", "postprocess", "track"}
    for stage in report["stages"].values():
        assert stage["frames"] == count
    assert all((tmp_path / "up" / name).is_file() for name in [*RESULTS, folder.REPORT_HTML])
    # one odometry message a tracked frame, under the colour image's own stamp
    tracked = read_tum(tmp_path / "up" / folder.ODOMETRY)
    assert report["tracked"] == len(tracked) == len(odometry)
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in odometry]
    assert stamps == tracked.stamps_ns.tolist()

    code, out, err = command("run", sequence, "--out", tmp_path / "run", *options).finish()
    assert code == 0, err
    alone = json.loads(out)
    for key in ("kernels", "assumptions", "schedule", "thermal"):
        assert report[key] == alone[key]
    assert report["comparison"]["modelled_a55"] == alone["comparison"]["modelled_a55"]
    assert report["stages"]["network"]["device"] == alone["stages"]["network"]["device"] == "emulated:mine"
    tables = [(tmp_path / d / folder.KERNELS).read_bytes() for d in ("up", "run")]
    assert tables[0] == tables[1]
    files = [sorted((tmp_path / d / folder.MOMENTS).iterdir()) for d in ("up", "run")]
    # their numbers differ: only the offline run knows of the frame that could not be read
    pictures = [[(p.name.partition("-")[0], p.read_bytes()) for p in one] for one in files]
    assert pictures[0] == pictures[1] and pictures[0]
    for name in (folder.TRAJECTORY, folder.ODOMETRY):
        graph, offline = (read_tum(tmp_path / d / name) for d in ("up", "run"))
        assert np.array_equal(graph.stamps_ns, offline.stamps_ns)
        assert np.abs(graph.T_world_camera - offline.T_world_camera).max() < 1e-6


def test_interrupt_while_the_nodes_start(command, small_room, tmp_path):
    up = command("up", "--sequence", SEQUENCE, "--rate", "1", "--loop", "--json", "--out", tmp_path)
    while not (tmp_path / "log" / "player_node.log").is_file():
        assert up.process.poll() is None
        time.sleep(0.01)
    up.process.send_signal(signal.SIGINT)
    code, out, err = up.finish(120)
    assert code == 0, err
    assert json.loads(out)["frames"] == 0


@pytest.mark.parametrize("victim", ["pose_node", "profiler_node"])
def test_killed_node_is_named_and_ends_the_graph(command, listen, small_room, tmp_path, victim):
    up = command("up", "--sequence", SEQUENCE, "--rate", "1", "--loop", "--out", tmp_path)
    found = listen.ready(frames=3)
    maps = Path(f"/proc/{found[victim]}/maps").read_text().split()
    mapped = {Path(word).name for word in maps if word.startswith("/dev/shm/fast")}
    os.kill(found[victim], signal.SIGKILL)
    code, _, err = up.finish(60)
    last = err.strip().splitlines()[-1]
    assert code == 1 and last.startswith(f"drp_slam up: {victim} was killed by SIGKILL")
    assert len(read_tum(tmp_path / folder.TRAJECTORY)) >= 3
    assert not (tmp_path / folder.JOURNAL).exists()
    for pid in found.values():
        assert not os.path.exists(f"/proc/{pid}")
    assert mapped and not mapped & set(remove_orphans())  # `up` has removed them already


def test_no_node_outlives_up(command, listen, small_room, tmp_path):
    up = command("up", "--sequence", SEQUENCE, "--rate", "1", "--loop", "--out", tmp_path)
    found = listen.ready(frames=3)
    up.process.kill()
    listen.until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in found.values()))
    assert (tmp_path / folder.TRAJECTORY).is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sequence", "no/such/folder"), "no such file or folder"),
        (("--sequence", SEQUENCE, "--rate", "fast"), "--rate 'fast'"),
        (("--sequence", SEQUENCE, "--set", "drp.topk=5"), "unknown parameter 'drp.topk'"),
        (("--sequence", SEQUENCE, "--in-flight", "0"), "player.in_flight is 0"),
    ],
)
def test_bad_options_are_one_line(command, small_room, tmp_path, arguments, words):
    code, _, err = command("up", *arguments, "--out", tmp_path).finish()
    assert code == 1 and len(err.strip().splitlines()) == 1 and words in err
    assert not list(tmp_path.glob("log/*"))


def test_play_refuses_in_one_line(command):
    code, _, err = command("play", "no/such/folder").finish()
    assert code == 1 and len(err.strip().splitlines()) == 1 and "no such file or folder" in err


def test_live_the_newest_frame_wins(command, small_room, tmp_path):
    """Ten times faster than any computer tracks: frames are dropped, the graph keeps up."""
    start = time.monotonic()
    up = command("up", "--sequence", SEQUENCE, "--rate", "20", "--json", "--out", tmp_path)
    code, out, err = up.finish()
    assert code == 0, err
    rows = folder.read_frames(tmp_path / folder.FRAMES)
    assert 1 <= len(rows) < len(small_room)
    assert json.loads(out)["frames"] == len(rows) and time.monotonic() - start < 120
    # what was tracked last is of the end of the sequence, not what waited since its beginning
    assert rows[-1].stamp_ns > small_room.stamps_ns[len(small_room) // 2]
