# SPDX-License-Identifier: Apache-2.0
"""Spans and frames through messages, into the files of a folder of results."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from drp_slam.datatypes import Track
from drp_slam.device import Work
from drp_slam.errors import GraphError, ProfilerError
from drp_slam.nodes import frame_tables, status_codec
from drp_slam.nodes.ledger import KEPT, LATE_NS, RECENT, Ledger
from drp_slam.profiler import work_table
from drp_slam.profiler.span import Span, read_spans
from drp_slam.reporting import folder

COUNTS = {"matches": "9", "inliers": "8", "keyframe": "0"}


def span(stamp_ns: int, stage: str, wall_s: float = 0.1 + 0.2) -> Span:
    return Span(stamp_ns, -1, stage, "drp", "emulated:rzv2h", wall_s, 1e-3, math.nan, 2e-3, 1 / 3)


def test_a_span_keeps_every_bit():
    message = status_codec.array_of(5, [status_codec.span_status("drp_node", span(5, "preprocess"))])
    (entry,) = status_codec.entries(message)
    assert repr(entry.span) == repr(span(5, "preprocess")) and entry.node == "drp_node"
    (left,) = status_codec.entries(status_codec.array_of(6, [status_codec.sent_status("player_node")]))
    assert left.span is None and left.stamp_ns == 6


def test_the_work_of_a_span_travels_with_it(tmp_path):
    works = (
        Work("drp", "resize", {"pixels": 1 / 3, "bytes": 7.0}, "opencva", "stencil", "resize"),
        Work("cpu", "GaussianBlur", {"ops": 2.0}, "cpu", "stencil", "GaussianBlur", reasons=("ksize is (9, 9)", "src")),
        Work("drpai3", "xfeat", {"macs": 1e9}, kind="results stay", configuration="x.onnx", shape=(1, 1, 64, 96)),
    )
    book = Ledger(tmp_path, ("preprocess", "postprocess"))
    for stage in ("postprocess", "preprocess"):
        status = status_codec.span_status("drp_node", span(5, stage), works)
        (entry,) = status_codec.entries(status_codec.array_of(5, [status]))
        assert entry.works == works
        book.add(entry)
    book.close()
    frame = work_table.read_works(tmp_path / folder.KERNELS)[5]
    assert list(frame) == ["preprocess", "postprocess"] and list(frame.values()) == [works, works]


@pytest.mark.parametrize("text", ["", "{", "7", "[7]", '["drp"]', '[["drp"]]', '[["drp", 1, {}]]'])
def test_work_that_cannot_be_read_is_refused(text):
    values = status_codec.values_of(status_codec.span_status("drp_node", span(5, "preprocess"))) | {"works": text}
    status = status_codec.entry("drp_node: preprocess", DiagnosticStatus.OK, "", values)
    with pytest.raises(GraphError, match="is no span"):
        status_codec.entries(status_codec.array_of(5, [status]))


def test_what_is_no_span_is_refused():
    with pytest.raises(GraphError, match="'x' is no span"):
        status_codec.entries(DiagnosticArray(status=[DiagnosticStatus(name="x")]))


def test_frames_are_numbered_by_stamp_and_latency_is_end_to_end(tmp_path):
    book = Ledger(tmp_path)
    for stamp_ns in (30, 10, 20):  # messages of different nodes come in any order
        sent = status_codec.Entry("player_node", status_codec.SENT, stamp_ns, 1_000_000_000, None)
        done = status_codec.Entry("drp_node", "preprocess", stamp_ns, 1_500_000_000, span(stamp_ns, "preprocess"))
        for entry in (done, sent):
            book.add(entry)
    for stamp_ns in (10, 30):
        track = Track(0, stamp_ns, "tracked" if stamp_ns == 10 else "lost", None, 9, 8, True)
        values = status_codec.values_of(status_codec.track_status("pose_node", track))
        book.close_frame(stamp_ns, track.state, values | {"at_ns": "3000000000"})
    book.close()
    rows = folder.read_frames(tmp_path / folder.FRAMES)
    assert [(r.index, r.stamp_ns, r.state) for r in rows] == [(0, 10, "tracked"), (2, 30, "lost")]
    assert rows[0].latency_s == pytest.approx(2.0) and (rows[0].matches, rows[0].inliers) == (9, 8)
    assert [(s.frame, s.stamp_ns) for s in read_spans(tmp_path / folder.SPANS)] == [(0, 10), (1, 20), (2, 30)]
    assert book.wall_total_s == pytest.approx(2.0)


def test_without_a_player_a_frame_begins_with_its_first_stage():
    book = Ledger()
    book.add(status_codec.Entry("drp_node", "preprocess", 1, 2_000_000_000, span(1, "preprocess", 0.5)))
    book.close_frame(2, "tracked", COUNTS | {"at_ns": "3000000000"})
    assert not book.latencies_s  # nothing is known of its start
    book.close_frame(1, "tracked", COUNTS | {"at_ns": "3000000000"})
    assert list(book.latencies_s) == [pytest.approx(1.5)]


def bad_spans() -> list[dict[str, object]]:
    good = status_codec.values_of(status_codec.span_status("drp_node", span(5, "preprocess")))
    return [
        good | {"wall_s": "inf"},
        good | {"wall_s": "nan"},
        good | {"at_ns": "-1"},
        good | {"at_ns": "9" * 400},
        good | {"unit": "", "energy_j": "much"},
    ]


@pytest.mark.parametrize("values", bad_spans())
def test_figures_that_cannot_be_added_are_refused(values):
    status = status_codec.entry("drp_node: preprocess", DiagnosticStatus.OK, "", values)
    with pytest.raises(GraphError, match="'drp_node: preprocess' is no span"):
        status_codec.entries(status_codec.array_of(5, [status]))


@pytest.mark.parametrize("key", ["matches", "inliers", "keyframe", "at_ns"])
@pytest.mark.parametrize("value", [None, "", "many", "-3"])
def test_what_is_no_status_of_a_frame_is_refused(key, value):
    status = status_codec.track_status("pose_node", Track(0, 5, "lost", None))
    assert status_codec.track_values(status)["inliers"] == "0"
    values = {k: v for k, v in status_codec.values_of(status).items() if k != key}
    if value is not None:
        values[key] = value
    status = status_codec.entry("pose_node: track", DiagnosticStatus.OK, "tracked", values)
    with pytest.raises(GraphError, match="status: 'pose_node: track' is no frame"):
        status_codec.track_values(status)


@pytest.mark.parametrize("kept", [True, False])
def test_a_ledger_does_not_grow_and_loses_nothing(tmp_path, kept):
    book = Ledger(tmp_path if kept else None, ("preprocess", "network"))
    for k in range(3000):
        at_ns = 1_000_000_000 + k * 1_000_000
        for stage in ("network", "preprocess"):
            book.add(status_codec.Entry("drp_node", stage, k, at_ns, span(k, stage)))
        if k % 10:  # some frames never end
            state = "lost" if k % 7 == 0 else "tracked"
            book.close_frame(k, state, COUNTS | {"at_ns": str(at_ns + 5_000_000)})
        assert len(book._kept) <= KEPT
    book.close()
    assert book.frames == 2700 and len(book.latencies_s) == RECENT
    if kept:
        spans, rows = read_spans(tmp_path / folder.SPANS), folder.read_frames(tmp_path / folder.FRAMES)
        assert [(s.frame, s.stage) for s in spans] == [(k, s) for k in range(3000) for s in ("preprocess", "network")]
        assert [r.index for r in rows] == [k for k in range(3000) if k % 10] and book.rows == 2700
    else:
        assert not list(tmp_path.iterdir())


def test_a_recording_in_a_loop_has_each_lap_in_the_tables(tmp_path):
    """The same stamps again: every lap has its own rows, and its own latencies."""
    book = Ledger(tmp_path)
    for lap in range(3):
        for stamp_ns in (10, 20):
            at_ns = (lap + 1) * 10**11 + stamp_ns
            book.add(status_codec.Entry("player_node", status_codec.SENT, stamp_ns, at_ns, None))
            book.add(
                status_codec.Entry("drp_node", "preprocess", stamp_ns, at_ns + 10**9, span(stamp_ns, "preprocess"))
            )
            book.close_frame(stamp_ns, "tracked", COUNTS | {"at_ns": str(at_ns + 2 * 10**9)})
    book.close()
    rows = folder.read_frames(tmp_path / folder.FRAMES)
    assert sorted(r.index for r in rows) == list(range(6)) and len(read_spans(tmp_path / folder.SPANS)) == 6
    assert all(r.latency_s == pytest.approx(2.0) for r in rows)


def test_a_full_disk_is_reported_once_and_live_figures_continue(tmp_path):
    (tmp_path / "out").write_text("no folder")
    book = Ledger(tmp_path / "out")
    refused = 0
    for k in range(3 * KEPT):
        try:
            book.close_frame(k, "tracked", COUNTS | {"at_ns": "1"})
        except ProfilerError as error:
            refused += "cannot write" in str(error)
    assert refused == 1 and book.frames >= 3 * KEPT - 1


def heard(book: Ledger, stamps: range, step_ns: int = 10**8) -> None:
    """What the nodes publish about these frames."""
    for k in stamps:
        at_ns = 10**9 + k * step_ns
        book.add(status_codec.Entry("drp_node", "preprocess", k, at_ns, span(k, "preprocess")))
        book.close_frame(k, "lost" if k % 7 == 0 else "tracked", COUNTS | {"at_ns": str(at_ns + 5_000_000)})


@pytest.mark.parametrize("torn", ["", "999,half a li"])
def test_a_killed_ledger_goes_on_where_it_was(tmp_path, torn):
    """The publishers send the newcomer their last messages again, as DDS does."""
    book = Ledger(tmp_path)
    heard(book, range(400))
    book.settle(10**9 + 400 * 10**8)
    assert book.rows == 400 - LATE_NS // 10**8 and not (tmp_path / folder.FRAMES).exists()
    for name in frame_tables.COLUMNS:  # killed while it wrote
        with (tmp_path / frame_tables.journal(name)).open("a") as file:
            file.write(torn)
    again = Ledger(tmp_path, (), 10**9 + 400 * 10**8)
    assert again.rows == again.frames == book.rows
    heard(again, range(300, 600))
    again.close()
    rows = folder.read_frames(tmp_path / folder.FRAMES)
    assert [(r.index, r.stamp_ns) for r in rows] == [(k, k) for k in range(600)]
    assert [s.stamp_ns for s in read_spans(tmp_path / folder.SPANS)] == list(range(600))
    assert again.frames == 600 and again.lost == sum(r.state == "lost" for r in rows)
    assert again.wall_total_s == pytest.approx(60.205, abs=0.3)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(frame_tables.COLUMNS)


def test_the_rows_of_a_ledger_that_was_killed_for_good_are_completed(tmp_path):
    assert not frame_tables.recover(tmp_path)
    book = Ledger(tmp_path)
    heard(book, range(400))
    book.settle(10**9 + 400 * 10**8)
    assert frame_tables.recover(tmp_path)
    assert len(folder.read_frames(tmp_path / folder.FRAMES)) == book.rows == 350
    graph = folder.read_json(tmp_path / folder.GRAPH)
    assert graph["frames"] == 350 and "was killed" in graph["problems"]["profiler_node"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sizes": 1}', '{"sizes": {}, "rows": 1}'])
def test_a_damaged_progress_file_is_ignored(tmp_path, content):
    (tmp_path / folder.LEDGER).write_text(content)
    assert not frame_tables.recover(tmp_path)
    (tmp_path / frame_tables.journal(folder.FRAMES)).write_text("of whom?\n")
    book = Ledger(tmp_path)
    heard(book, range(3))
    book.close()
    assert len(folder.read_frames(tmp_path / folder.FRAMES)) == 3
