# SPDX-License-Identifier: Apache-2.0
"""Pages: verdict, viewer, pictures of moments; no error and no overflow in headless Chromium, where it is there."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from page_checks import CHROMIUM, browse, check_page

from drp_slam.config import Config
from drp_slam.data.dataset import open_sequence
from drp_slam.datatypes import Camera, Features, Frame, Track
from drp_slam.offline import run_sequence
from drp_slam.profiler.page import page, section, table
from drp_slam.profiler.verdict import verdict
from drp_slam.profiler.viewer import MOST_POINTS, viewer
from drp_slam.reporting import folder
from drp_slam.reporting.moments import APART_S, MOST_KEYFRAMES, MOST_WORST, WIDTH_PX, Moments, picture
from drp_slam.reporting.results import build


def with_script(path: Path, script: str) -> Path:
    """A copy whose `script` runs last and says its result in the title."""
    copy = path.with_name(f"tested-{path.name}")
    text = path.read_text(encoding="utf-8").replace("</body>", f"<script>document.title = {script}</script></body>")
    copy.write_text(text, encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    run_sequence(open_sequence("synthetic:frames=400,width=96"), Config(), out)
    build(out)
    return out


def test_a_report_of_400_frames_is_one_small_file_that_loads_nothing(results: Path) -> None:
    text = check_page(results / folder.REPORT_HTML)
    assert 'class="viewer"' in text
    shown = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(shown) == len(list((results / folder.MOMENTS).iterdir())) > 0
    first = cv2.imdecode(np.frombuffer(base64.b64decode(shown[0]), np.uint8), cv2.IMREAD_COLOR)
    assert first.shape[1] == WIDTH_PX


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")
def test_the_viewer_draws_and_a_table_sorts(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (5000, 3))
    drawn = viewer(points, np.full((5000, 3), 200, np.uint8), points[:50], np.arange(50) * 0.1, np.full(50, 0.01))
    rows = [["a", 1200.0], ["b", None], ["c", 30.5], ["d", 2.0]]
    path = tmp_path / "page.html"
    body = section("3-D", "", drawn) + section("Layers", "", table([("name", "text"), ("us", "")], rows, sortable=True))
    path.write_text(page("t", "", body, ""), encoding="utf-8")
    script = """(() => {
      const head = document.querySelectorAll('table.sortable th')[1], read = () =>
        [...document.querySelectorAll('table.sortable tbody tr')].map(r => r.cells[0].textContent).join('');
      head.click(); const down = read(); head.click(); const up = read();
      return `${down} ${up}`;
    })()"""
    shot = tmp_path / "shot.png"
    title, console = browse(with_script(path, script), f"--screenshot={shot}", "--window-size=1280,900")
    assert not console
    assert title == "acdb dcab"
    viewed = cv2.imread(str(shot))[200:600, 200:1000].reshape(-1, 3).astype(int)
    assert 0.02 < np.mean(np.abs(viewed - 200).max(1) < 3) < 0.9, "points of one grey"


def test_the_viewer_keeps_positions_and_bounds_its_size() -> None:
    rng = np.random.default_rng(1)
    points, path = rng.normal(0, 2, (3 * MOST_POINTS, 3)), rng.normal(0, 1, (100, 3))
    points[0] = np.nan
    text = viewer(points, None, path, np.arange(100.0))
    assert len(text) < 1_000_000
    data = json.loads(re.search('<script type="application/json">(.*?)</script>', text)[1])
    stored = np.frombuffer(base64.b64decode(data["path"]), "<u2").reshape(-1, 3) * data["step"] + data["origin"]
    assert np.abs(stored - path).max() <= data["step"]
    assert len(base64.b64decode(data["points"])) == 6 * MOST_POINTS
    assert viewer(np.zeros((0, 3)), None) == ""


def report(**facts: object) -> dict[str, object]:
    empty = dict.fromkeys(("frames", "tracked", "ate_rmse_m", "schedule", "stages", "assumptions", "duration", "fps"))
    return empty | {"reasons": [], "comparison": {"modelled_a55": None}} | facts


def test_the_verdict_says_what_was_lost_and_what_bounds() -> None:
    assert verdict(report()) == []
    lost = {"state": "lost", "reason": "too_dark", "frames": 7, "remedy": "add light"}
    first = verdict(report(frames=100, tracked=90, ate_rmse_m=0.012, reasons=[lost]))[0]
    assert (
        first
        == "10 of 100 frames were lost, 7 of them: too dark (add light); the path is 1.2 cm RMSE from ground truth."
    )
    lost |= {"frames": 10, "remedy": "the image is nearly black: add light"}
    whole = verdict(report(frames=100, tracked=90, ate_rmse_m=None, reasons=[lost]))[0]
    assert whole == "10 of 100 frames were lost: too dark (add light)."
    stages = {
        n: {"unit": u, "modelled_ms": {"p50": t}} for n, u, t in (("network", "drpai3", 9.0), ("track", "cpu", 3.0))
    }
    plan = {"throughput_hz": 100.0, "utilisation": {"CPU": 0.3, "DRP-AI3": 0.95}}
    bound = verdict(report(schedule={"in_flight": {"1": plan, "3": plan}}, stages=stages))[0]
    assert "the DRP-AI3 bounds the rate: 95 % busy at 100 Hz" in bound and "9 ms of it in network" in bound
    assert "pruned further" in bound and "took no time, the CPU would bound the rate at 333 Hz" in bound
    assert verdict(report(frames=31, duration=1.0, fps=20.0)) == [
        "This host, at 20 Hz, is slower than the camera's 30 Hz."
    ]


def test_the_worst_moments_are_apart_and_memory_is_bounded() -> None:
    moments, image = Moments(), np.zeros((48, 64), np.uint8)
    uv = np.array([[3.0, 4.0], [500.0, -9.0]], np.float32)
    features = Features(uv, np.ones(2, np.float32), np.zeros((2, 64), np.float32))
    camera = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)
    inliers = np.random.default_rng(2).permutation(600)
    for k, count in enumerate(inliers.tolist()):
        pose = None if count == 0 else np.eye(4)
        track = Track(k, k * 10**8, "lost" if count == 0 else "tracked", pose, 600, count, keyframe=k % 3 == 0)
        moments.add(Frame(k, k * 10**8, image, camera), features, track, np.array([0]))
    kept = moments._worst
    candidates = [(-1 if c == 0 else c, k) for k, c in enumerate(inliers.tolist()) if k % 3]
    assert kept[0].inliers == min(candidates)[0] and len(kept) == MOST_WORST
    stamps = np.sort([m.stamp_ns for m in kept])
    assert np.diff(stamps).min() >= APART_S * 1e9
    assert MOST_KEYFRAMES / 2 <= len(moments._keyframes) <= MOST_KEYFRAMES
    assert {m.index % 3 for m in moments._keyframes} == {0}


def test_a_picture_marks_inliers_in_green() -> None:
    image = np.full((240, 640, 3), 90, np.uint8)
    found = cv2.imdecode(np.frombuffer(picture(image, np.array([[320.0, 120.0]]), np.array([0])), np.uint8), 1)
    assert found.shape == (120, 320, 3)
    b, g, r = found[60, 160].astype(int)
    assert g > max(b, r) + 10 and g > 150
