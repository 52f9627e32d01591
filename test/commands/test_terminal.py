# SPDX-License-Identifier: Apache-2.0
"""Every command on a terminal of 80 columns: help, tables, colours, last line."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from drp_slam import cli
from drp_slam.commands import commands

COMMAND = re.compile(r"\x1b\[[0-9;?]*([A-Za-z])")
"""An escape sequence and its kind: m is a colour or a weight."""


def on_terminal(*words: object, **env: str) -> tuple[int, str]:
    """Exit code, and what a terminal of 80 columns gets from standard output."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm-256color", **env}
    command = [sys.executable, "-m", "drp_slam", *map(str, words)]
    with subprocess.Popen(command, stdout=follower, stderr=subprocess.DEVNULL, env=environment) as child:
        os.close(follower)
        parts = []
        try:
            while part := os.read(leader, 65536):
                parts.append(part)
        except OSError:  # Linux: the other end is closed
            pass
    os.close(leader)
    return child.returncode, b"".join(parts).decode().replace("\r\n", "\n")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    assert cli.main(["run", "synthetic:frames=12,width=160", "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("name", sorted(commands()))
def test_help_fits(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    out = capsys.readouterr().out
    assert max(map(cell_len, out.splitlines())) <= 80
    assert "--json" in out and "example: python -m drp_slam" in out


@pytest.mark.parametrize("name", sorted(commands()))
def test_an_unknown_option_points_to_the_help_of_its_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*shlex.split(commands()[name].EXAMPLE), "--no-such-option"])
    assert end.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(f"see python -m drp_slam {name} --help")


@pytest.mark.parametrize(
    "words",
    [
        ["estimate", "xfeat-fp32", "--input-shape", "1,1,64,96", "--html", "--out", "{tmp}"],
        ["compare-networks", "xfeat", "xfeat-p90", "--input-shape", "1,1,64,96", "--out", "{tmp}"],
        ["convert", "synthetic:frames=3,width=96", "{tmp}/bag"],
        ["report", "{results}"],
        ["report", "{results}", "{results}", "--out", "{tmp}"],
    ],
    ids=lambda words: "-".join(words[:2]).replace("{results}", "results"),
)
def test_tables_fit_and_the_last_line_names_a_file(words: list[str], results: Path, tmp_path: Path) -> None:
    code, text = on_terminal(*(word.format(tmp=tmp_path, results=results) for word in words), NO_COLOR="1")
    assert code == 0
    assert not [k for k in COMMAND.findall(text) if k != "m"], "nothing moves the cursor on standard output"
    lines = COMMAND.sub("", text).splitlines()
    assert not [line for line in lines if cell_len(line.rstrip()) > 80 and "/" not in line]
    assert Path(lines[-1].split()[-1]).exists()
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", text), "no colour with NO_COLOR"


def test_a_pipe_and_a_dumb_terminal_get_no_escape_sequence() -> None:
    words = ["compare-networks", "xfeat", "--input-shape", "1,1,64,96"]
    piped = subprocess.run([sys.executable, "-m", "drp_slam", *words], capture_output=True, text=True, check=True)
    assert "\x1b" not in piped.stdout + piped.stderr
    code, text = on_terminal(*words, TERM="dumb")
    assert code == 0 and "\x1b" not in text
