# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp_slam.evaluation.boxes import Boxes, average_precision, intersection_over_union


def boxes(*rows: tuple[float, ...]) -> Boxes:
    """Rows of x0 y0 x1 y1 score."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4].astype(np.float32), np.zeros(len(table), np.int64))


ONE, TWO, FAR = (0.1, 0.1, 0.3, 0.3), (0.5, 0.5, 0.9, 0.9), (0.0, 0.8, 0.1, 0.9)


def test_precision_by_hand():
    truth = [boxes((*ONE, 1.0), (*TWO, 1.0))]
    assert average_precision(truth, truth, 0, 0.95) == 1.0
    assert average_precision(truth, [boxes()], 0, 0.5) == 0.0
    assert average_precision(truth, [boxes((*ONE, 0.9))], 0, 0.5) == 0.5
    # the wrong box comes second: precision 1 up to recall 1/2, then 2/3
    assert average_precision(truth, [boxes((*ONE, 0.9), (*FAR, 0.8), (*TWO, 0.7))], 0, 0.5) == pytest.approx(
        0.5 + 1 / 3
    )
    # a true box is found once
    assert average_precision(truth, [boxes((*ONE, 0.9), (*ONE, 0.8))], 0, 0.5) == 0.5
    assert np.isnan(average_precision(truth, truth, 1, 0.5))
    # a box is not found on another image
    assert average_precision([truth[0], boxes()], [boxes(), truth[0]], 0, 0.5) == 0.0


@given(st.integers(0, 2**32 - 1))
def test_overlap_is_that_of_pixels(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 12, (6, 2, 2))
    xyxy = np.concatenate([corners.min(1), corners.max(1) + 1], 1).astype(np.float64)
    planes = np.zeros((6, 13, 13), bool)
    for plane, (x0, y0, x1, y1) in zip(planes, xyxy.astype(int)):
        plane[y0:y1, x0:x1] = True
    wanted = [[(a & b).sum() / (a | b).sum() for b in planes[3:]] for a in planes[:3]]
    assert np.allclose(intersection_over_union(xyxy[:3], xyxy[3:]), wanted)


def test_a_detector_agrees_with_itself_and_less_with_a_pruned_one(tmp_path, capsys):
    data = Path(os.environ.get("DRP_SLAM_DATA", "")) / "networks" / "fastestdet"
    if not (data / "FastestDet.onnx").is_file():
        pytest.skip("set DRP_SLAM_DATA to a folder with networks/fastestdet/FastestDet.onnx")
    pytest.importorskip("torch")
    import json

    from drp_slam.cli import main
    from drp_slam.pruning import cutting, onnxfile

    graph = onnxfile.read(str(data / "FastestDet.onnx"))
    cutting.prune(graph, cutting.Options(0.4, saliency="magnitude"), None)
    (tmp_path / "pruned.onnx").write_bytes(graph.updated().SerializeToString())
    files = [str(data / "FastestDet.onnx"), str(data / "FastestDet.onnx"), str(tmp_path / "pruned.onnx")]
    assert main(["compare-detectors", *files, "--images", str(data), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    same, pruned = (row["map50"] for row in result["networks"])
    assert result["reference_boxes"] > 0 and same == 1.0 and pruned < 1.0
