# SPDX-License-Identifier: Apache-2.0
"""Labels of map points: the majority of their views, whatever happens to their numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drp_slam.datatypes import Detections
from drp_slam.slam.labels import Labels
from drp_slam.slam.map import Map

FOCAL_PX, HERE = 100.0, np.eye(4)
UV = np.array([[10.0, 10.0], [50.0, 50.0], [90.0, 90.0]], np.float32)


def boxes(*found: tuple[str, tuple[float, float, float, float]]) -> Detections:
    names = [name for name, _ in found]
    array = np.array([box for _, box in found], np.float32).reshape(-1, 4)
    return Detections(array, np.ones(len(found), np.float32), np.zeros(len(found), int), tuple(names))


def a_map(points: int = 3) -> tuple[Map, Labels]:
    slam_map = Map()
    slam_map.points.add(np.tile([0.0, 0.0, 2.0], (points, 1)), np.zeros((points, 64), np.float32), None)
    return slam_map, Labels(slam_map, FOCAL_PX)


def test_a_point_belongs_to_the_smallest_box_around_it_and_to_none_outside() -> None:
    _, labels = a_map()
    assert labels.columns() is None
    labels.seen(5, UV, np.arange(3), HERE)
    found = boxes(("cup", (40, 40, 60, 60)), ("table", (0, 0, 80, 80)))
    assert labels.vote(5, found) == 3
    label, votes = labels.columns()
    assert [labels.names[i] if i >= 0 else None for i in label] == ["table", "cup", None]
    assert votes.tolist() == [1, 1, 1]
    assert labels.vote(5, found) == 0, "a frame votes once"
    assert labels.vote(7, found) == 0, "nor does a frame that was not tracked"


def test_a_detector_that_is_faster_than_the_tracker_is_waited_for() -> None:
    _, labels = a_map()
    assert labels.vote(5, boxes(("cup", (0, 0, 100, 100)))) == 0 and labels.columns() is None
    labels.seen(5, UV, np.arange(3), HERE)
    assert labels.columns()[0].tolist() == [0, 0, 0]


@given(st.lists(st.sampled_from(["cup", "table", None]), min_size=1, max_size=25))
def test_the_class_of_more_than_half_of_the_views_wins(views: list[str | None]) -> None:
    _, labels = a_map(1)
    for stamp, name in enumerate(views):
        labels.seen(stamp, UV[:1], np.zeros(1, int), HERE)
        labels.vote(stamp, boxes((name, (0, 0, 20, 20))) if name else boxes())
    label, _ = labels.columns()
    won = labels.names[label[0]] if label[0] >= 0 else None
    for name in set(views):
        if views.count(name) > len(views) / 2:
            assert won == name


def test_a_number_given_again_does_not_inherit_votes() -> None:
    slam_map, labels = a_map()
    labels.seen(1, UV, np.arange(3), HERE)
    labels.seen(2, UV, np.arange(3), HERE)
    labels.vote(1, boxes(("cup", (0, 0, 100, 100))))
    slam_map.points.alive[1] = False
    slam_map.points.refresh()
    assert slam_map.points.add(np.zeros((1, 3)), np.zeros((1, 64), np.float32), None, keyframe=4).tolist() == [1]
    label, votes = labels.columns()
    assert label.tolist() == [0, -1, 0] and votes.tolist() == [1, 0, 1]
    assert labels.vote(2, boxes(("cup", (0, 0, 100, 100)))) == 2, "the frame saw the point that died"
    assert labels.columns()[0].tolist() == [0, -1, 0]


def test_a_point_behind_the_surface_or_before_it_gets_no_vote() -> None:
    """A box of 40 px at 2 m and a focal length of 100 px is 0.8 m large: as deep an object may be."""
    slam_map, labels = a_map(5)
    slam_map.points.xyz[:, 2] = [2.0, 2.1, 2.7, 3.0, 1.0]
    uv = np.array([[20, 20], [22, 19], [5, 20], [35, 20], [20, 36]], np.float32)
    labels.seen(1, uv, np.arange(5), HERE)
    assert labels.vote(1, boxes(("cup", (0, 0, 40, 40)))) == 5, "they vote, but not all of them for it"
    assert labels.columns()[0].tolist() == [0, 0, 0, -1, -1]
    # seen from one metre behind, the object is farther away and as many pixels are larger
    back = np.eye(4)
    back[2, 3] = 1.0
    for stamp in (2, 3):
        labels.seen(stamp, uv, np.arange(5), back)
        labels.vote(stamp, boxes(("table", (0, 0, 40, 40))))
    assert labels.columns()[0].tolist() == [1, 1, 1, 1, 1], "all are in reach now, and two views of three say so"


def test_labels_live_in_the_map() -> None:
    slam_map, labels = a_map()
    labels.seen(1, UV, np.arange(3), HERE)
    labels.vote(1, boxes(("cup", (0, 0, 60, 60))))
    label, votes = Labels(slam_map.copy(), FOCAL_PX).columns()
    assert label.tolist() == [0, 0, -1] and votes.tolist() == [1, 1, 1]
