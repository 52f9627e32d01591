# SPDX-License-Identifier: Apache-2.0
"""Damaged folders of results: one clean line or a report, never a traceback."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import CASES, damaged, survives

from drp_slam import Config, open_sequence
from drp_slam.data.ply import read_ply
from drp_slam.data.trajectory import read_tum
from drp_slam.errors import DrpSlamError
from drp_slam.offline import run_sequence
from drp_slam.profiler.span import read_spans
from drp_slam.profiler.work_table import read_works
from drp_slam.reporting import folder, results

READERS: dict[str, Callable[[Path], Any]] = {
    folder.RUN: lambda path: folder.read_run(path.parent),
    folder.TRAJECTORY: read_tum,
    folder.MAP: read_ply,
    folder.SPANS: read_spans,
    folder.FRAMES: folder.read_frames,
    folder.KERNELS: read_works,
}


@pytest.fixture(scope="session")
def sound(wall: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sound")
    run_sequence(open_sequence(str(wall)), Config(), out)
    run = json.loads((out / folder.RUN).read_text())
    del run["files"]  # or every damage would be told by its digest alone
    (out / folder.RUN).write_text(json.dumps(run))
    return out


def with_odd_value(data: bytes, rng: random.Random) -> bytes:
    """`run.json` with one value of another kind."""
    run = json.loads(data)
    place = run if rng.random() < 0.7 else run["config"][rng.choice(list(run["config"]))]
    odd = [None, -1, 1e308, "", "x" * 5000, "$\\frac{$", [], {}, {"a": [1]}, True, [None], "\x00", "[/bold]"]
    place[rng.choice(list(place))] = rng.choice(odd)
    return json.dumps(run).encode()


@pytest.mark.parametrize("name", READERS)
def test_a_reader_refuses_damage_in_one_short_message(sound, tmp_path, name):
    rng, refused, path = random.Random(name), 0, tmp_path / name
    data = (sound / name).read_bytes()
    for _ in range(CASES):
        path.write_bytes(damaged(data, rng))
        refused += survives(lambda: READERS[name](path))
    assert refused > CASES // 4


def accepted(sound: Path, folder_: Path, name: str, rng: random.Random) -> bool:
    """Damages a file of `folder_` in a way that its reader lets through; False after `CASES` tries."""
    data = (sound / name).read_bytes()
    for case in range(CASES):
        broken = with_odd_value(data, rng) if name == folder.RUN and case % 2 else damaged(data, rng)
        (folder_ / name).write_bytes(broken)
        try:
            READERS[name](folder_ / name)
        except DrpSlamError:
            continue
        return True
    (folder_ / name).write_bytes(data)
    return False


@pytest.mark.parametrize("name", READERS)
def test_what_a_reader_lets_through_breaks_nothing_behind_it(sound, tmp_path, name):
    """One clean line, or a report. Pictures take a second each, so the next test draws them, for all files at once."""
    out, rng = tmp_path / "out", random.Random(name)
    shutil.copytree(sound, out)
    for _ in range(5 if name == folder.RUN else 2):
        if accepted(sound, out, name, rng):
            try:
                results.gather(out)
            except DrpSlamError as error:
                assert len(str(error)) <= 1000


@pytest.mark.parametrize("seed", range(2))
def test_a_report_of_files_that_are_all_damaged(sound, tmp_path, seed):
    out, rng = tmp_path / "out", random.Random(seed)
    shutil.copytree(sound, out)
    changed = [name for name in READERS if accepted(sound, out, name, rng)]
    assert changed
    try:
        results.build(out)
    except DrpSlamError as error:
        assert len(str(error)) <= 1000


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("target", ["/dev/zero", "fifo", "folder", "loop"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, name, target):
    path = tmp_path / name
    if target == "fifo":
        os.mkfifo(path)
    elif target == "folder":
        path.mkdir()
    else:
        path.symlink_to(name if target == "loop" else target)
    if name == folder.RUN and target == "loop":
        return  # it is as if there were none
    with pytest.raises(DrpSlamError, match=name):
        READERS[name](path)
