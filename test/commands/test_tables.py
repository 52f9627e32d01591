# SPDX-License-Identifier: Apache-2.0
"""Tables fit the terminal: spare columns go first, and a line says which."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from drp_slam import cli
from drp_slam.commands._tables import print_table
from drp_slam.profiler.terminal import print_lines

CELL = st.text("abc[]/%é日", min_size=1, max_size=12)


@given(st.lists(st.tuples(*[CELL] * 6), min_size=1, max_size=4), st.integers(34, 110))
def test_a_table_fits_and_names_what_it_leaves_out(rows: list[tuple[str, ...]], width: int) -> None:
    file = io.StringIO()
    print_table(
        "first|2nd|3rd|4th|5th|6th", rows, left=("first",), spare="6th|5th|4th|3rd", out=Console(file=file, width=width)
    )
    *table, last = file.getvalue().splitlines()
    spared = [name for name in ("6th", "5th", "4th", "3rd") if name not in table[0].split()]
    assert spared == ["6th", "5th", "4th", "3rd"][: len(spared)], "in the order given"
    assert last == f"omitted at this width: {', '.join(spared)}; --json has them" if spared else "omitted" not in last
    body = table if spared else [*table, last]
    shown = ["first", "2nd", *(n for n in ("3rd", "4th", "5th", "6th") if n not in spared)]
    for row, line in zip(rows, body[2:], strict=True):
        assert line.split() == list(row[: len(shown)]), "whole cells, one line a row"


@given(st.lists(st.text("ab-/. ", min_size=1, max_size=60), min_size=1, max_size=20), st.integers(0, 12))
def test_lines_wrap_at_words_on_a_terminal_and_nowhere_else(words: list[str], indent: int) -> None:
    text = " ".join(" ".join(words).split()) or "x"
    for terminal in (True, False):
        out = Console(file=io.StringIO(), width=40, force_terminal=terminal, color_system=None)
        print_lines([text], indent=indent, out=out)
        lines = out.file.getvalue().splitlines()
        assert " ".join(" ".join(lines).split()) == text, "nothing is lost, and no word is broken"
        if terminal:
            assert all(len(line) <= 40 or " " not in line.strip() for line in lines)
            assert all(line.startswith(" " * indent) for line in lines[1:])
        else:
            assert lines == [text]


@pytest.mark.parametrize(
    "command",
    [
        ["compare-networks", "xfeat", "--input-shape", "1,1,64,64"],
        ["overhead", "--repeats", "1", "--height", "64", "--width", "64"],
        ["estimate", "xfeat", "--input-shape", "1,1,64,64"],
    ],
    ids=lambda c: c[0],
)
def test_out_keeps_the_result(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, "--out", str(tmp_path / "out")]) == 0
    path = tmp_path / "out" / f"{command[0]}.json"
    assert f"wrote {path}" in capsys.readouterr().out
    assert json.loads(path.read_text())


@pytest.mark.parametrize("command", [["play", "synthetic"], ["convert", "synthetic", "x"]], ids=lambda c: c[0])
def test_a_command_that_writes_no_results_has_no_out(command: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--out", "somewhere"])
    assert end.value.code == 2
