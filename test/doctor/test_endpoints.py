# SPDX-License-Identifier: Apache-2.0
"""Why nothing arrives on a topic: each cause is told from the others."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp_slam.doctor.checks import CHECKS, Level
from drp_slam.doctor.endpoints import LOST_S, SILENT_S, Input, Publisher, Qos, Subscription, check_input
from drp_slam.doctor.findings import Finding, finding_from, found, worst_first

IMAGE, SMALL, INFO = (f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo"))
BEST_EFFORT, RELIABLE, LATCHED = Qos(False, False), Qos(True, False), Qos(True, True)


def image(silent_s: float, qos: Qos = BEST_EFFORT, topic: str = "/camera/image") -> Input:
    return Input("image", [Subscription(topic, IMAGE, qos), Subscription(f"{topic}/compressed", SMALL, qos)], silent_s)


def names(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(f.check.name, f.where) for f in findings]


def test_a_topic_that_sends_is_no_finding():
    assert not check_input(image(0.1), {"/camera/image": [Publisher("/cam", IMAGE, RELIABLE)]}, {})


@pytest.mark.parametrize(("silent_s", "level"), [(SILENT_S, Level.WARN), (LOST_S, Level.ERROR)])
def test_no_publisher_names_the_nearest_topic_of_the_type(silent_s, level):
    topics = {
        "/camera/color/image_raw": [IMAGE],
        "/camera/depth/image_rect_raw": [IMAGE],
        "/camera/color/camera_info": [INFO],
        "/scan": ["sensor_msgs/msg/LaserScan"],
    }
    (finding,) = check_input(image(silent_s, topic="/camera/color/image"), {}, topics)
    assert finding.key == ("no_message", "/camera/color/image") and finding.level is level
    assert "no publisher; nearest: /camera/color/image_raw (sensor_msgs/msg/Image)" in finding.seen
    assert "camera_info" not in finding.seen and "/scan" not in finding.seen


def test_depth_is_looked_for_among_depth():
    wanted = Input("depth", [Subscription("/camera/dpeth/image_raw", IMAGE, BEST_EFFORT)], 9.0)
    (finding,) = check_input(wanted, {}, {"/camera/color/image_raw": [IMAGE], "/camera/depth/image_raw": [IMAGE]})
    assert "nearest: /camera/depth/image_raw" in finding.seen


def test_no_topic_at_all():
    (finding,) = check_input(image(6.0), {}, {})
    assert "no topic of type sensor_msgs/msg/Image exists" in finding.seen


def test_wrong_type():
    publishers = {"/camera/image": [Publisher("/cam", SMALL, RELIABLE)]}
    (finding,) = check_input(image(6.0), publishers, {"/camera/image": [SMALL]})
    assert finding.check.name == "wrong_type" and SMALL in finding.seen and IMAGE in finding.seen


@given(*(st.booleans() for _ in range(4)))
def test_qos_that_cannot_match(a, b, c, d):
    """As DDS has it: a publisher serves whoever asks for no more than it offers."""
    offered, wanted = Qos(a, b), Qos(c, d)
    publishers = {"/camera/image": [Publisher("/cam", IMAGE, offered)]}
    (finding,) = check_input(image(6.0, wanted), publishers, {})
    assert finding.check.name == ("no_message" if a >= c and b >= d else "qos_mismatch")
    assert "/cam" in finding.seen


def test_a_silent_publisher_is_named():
    (finding,) = check_input(image(6.0), {"/camera/image": [Publisher("/cam", IMAGE, RELIABLE)]}, {})
    assert finding.check.name == "no_message" and "/cam on /camera/image connected but silent" in finding.seen


def test_two_publishers_even_while_messages_come():
    both = [Publisher("/cam", IMAGE, RELIABLE), Publisher("/rosbag2_player", IMAGE, RELIABLE)]
    assert names(check_input(image(0.1), {"/camera/image": both}, {})) == [("two_publishers", "/camera/image")]
    one_driver = {"/camera/image": both[:1], "/camera/image/compressed": [Publisher("/cam", SMALL, RELIABLE)]}
    assert not check_input(image(0.1), one_driver, {})


@pytest.mark.parametrize("name", CHECKS)
def test_findings_travel_as_text(name):
    finding = found(name, "/image", "seen: 5 [/bold]", Level.NOTE)
    assert finding_from(finding.values()) == finding
    check = CHECKS[name]
    assert all(text.strip() for text in (check.symptom, check.why, check.remedy))
    assert check.why.endswith(".") and check.symptom.endswith(".") and not check.remedy.endswith(".")


def test_the_worst_comes_first_and_each_once():
    a, b = found("dark", "/image", "1"), found("no_depth", "/depth", "2")
    worse = dataclasses.replace(a, level=Level.ERROR, seen="3")
    assert worst_first([a, b, a]) == [b, a]
    assert worst_first([a, worse]) == [worse]
