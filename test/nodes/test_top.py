# SPDX-License-Identifier: Apache-2.0
"""What the graph asks of the chip, in closed form and from a running graph."""

from __future__ import annotations

import io
import json
import signal

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from graphs import SEQUENCE
from rich.console import Console

from drp_slam.chip import thermal
from drp_slam.chip.constants import load_constants
from drp_slam.commands.top import picture
from drp_slam.doctor.findings import found
from drp_slam.nodes import qos, status_codec
from drp_slam.nodes.node_findings import NodeFindings
from drp_slam.nodes.top import summary
from drp_slam.nodes.unit_load import WINDOW_S, UnitLoad

CHIP = load_constants("rzv2h")


def test_utilisation_and_energy_are_of_the_window() -> None:
    load = UnitLoad(CHIP, 0.0)
    for k in range(100):  # 10 frames a second: 20 ms of the CPU, 5 of DRP1, 30 mJ
        load.add(k / 10, k, [("CPU", 0.02)], 0.02)
        load.add(k / 10, k, [("DRP1", 0.003), ("DRP1", 0.002)], 0.01)
        load.add(k / 10, k, [("DRP-AI3", float("nan"))], float("nan"))
    found = load.figures(10.0)
    assert float(found["utilisation.CPU"]) == pytest.approx(0.2)
    assert float(found["utilisation.DRP1"]) == pytest.approx(0.05)
    assert "utilisation.DRP-AI3" not in found
    assert float(found["energy_mj"]) == pytest.approx(30)
    assert float(found["power_w"]) == pytest.approx(0.3)
    assert float(found["rate_hz"]) == pytest.approx(10)
    later = load.figures(10.0 + 2 * WINDOW_S)
    assert later["energy_mj"] == "" and float(later["power_w"]) == 0.0


def test_the_temperature_follows_the_closed_form() -> None:
    load = UnitLoad(CHIP, 0.0)
    for second in range(1, 301):
        for k in range(4):
            load.add(second - 1 + k / 4, 4 * second + k, [], 0.5)  # 2 W
        found = load.figures(float(second))
    expected = thermal.temperature_c(CHIP, 2.0, np.array([300.0]))[0]
    assert float(found["temperature_c"]) == pytest.approx(expected, abs=0.05)
    assert UnitLoad(load_constants("rzv2n"), 0.0).figures(1.0).get("temperature_c") is None


def test_a_profiler_that_knows_nothing_yet() -> None:
    found = summary({"frames": "0"})
    assert found["fps"] is None and found["utilisation"] == {} and found["state"] == ""


def test_findings_of_a_node_hold_until_its_next_health() -> None:
    findings, late, dark = NodeFindings(), found("stamps_behind", "/depth", "1 s"), found("dark", "/image", "3 of 255")
    for node, finding in (("pose_node", late), ("drp_node", dark), ("drp_node", dark)):
        findings.add(node, finding)
    assert {f.where for f in findings.findings} == {"/depth", "/image"} and len(findings.findings) == 2
    findings.health("drp_node")
    findings.add("drp_node", None)
    assert findings.findings == [late]
    graph = {"namespace": "/", **summary({}), "nodes": {}, "findings": [f.values() for f in findings.findings]}
    console = Console(file=io.StringIO(), width=200)
    console.print(picture(graph))
    assert f"/depth: 1 s; {late.check.remedy}"[:60] in console.file.getvalue()


@pytest.mark.system
def test_top_shows_a_running_graph_and_says_what_diagnostics_says(command, listen, tmp_path) -> None:
    diagnostics = listen(DiagnosticArray, "/diagnostics", qos.health())
    up = command("up", "--sequence", SEQUENCE, "--rate", "2", "--loop", "--features", "orb", "--out", tmp_path)
    listen.ready({"drp_node", "pose_node", "profiler_node", "player_node"}, frames=4)
    code, out, err = command("top", "--once", "--json", "--timeout", "60").finish()
    assert code == 0, err
    found = json.loads(out)
    assert set(found["nodes"]) == {"drp_node", "pose_node", "profiler_node", "player_node"}
    assert found["frames"] >= 4 and found["state"] in status_codec.STATES
    assert {"DRP1", "CPU"} <= set(found["utilisation"]) and all(u > 0 for u in found["utilisation"].values())
    assert found["power_w"] > 0 and found["energy_mj"] > 0 and found["temperature_c"] > CHIP["thermal.ambient"]
    listen.spin(1.5)
    findings = [s for m in diagnostics for s in m.status if s.name == "profiler_node: health"][-1]
    assert {"utilisation.CPU", "power_w", "temperature_c", "dropped", "state"} <= set(status_codec.values_of(findings))
    code, out, _ = command("top", "--once", "--timeout", "60").finish()
    assert code == 0 and "tracking:" in out and "DRP1" in out and "pose_node" in out
    up.process.send_signal(signal.SIGINT)
    assert up.finish()[0] == 0


@pytest.mark.system
def test_top_without_a_graph_is_one_line(command) -> None:
    code, out, err = command("top", "--once", "--timeout", "0.5").finish()
    assert code == 1 and out == "" and "no graph found in 0.5 s on ROS domain" in err.splitlines()[-1]
