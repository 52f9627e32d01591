# SPDX-License-Identifier: Apache-2.0
"""Commands where the surroundings are poor: C locale, no HOME, closed or full output, folders that take no file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOM = "synthetic:frames=4,width=160"
COMMANDS = {
    "help": ["--help"],
    "estimate": ["estimate", "xfeat", "--input-shape", "tensor=1,1,224,224", "--json"],
    "run": ["run", ROOM, "--out", "{out}"],
    "convert": ["convert", ROOM, "{out}"],
}


def call(name: str, out: Path, redirect: str = "", **changes: str | None) -> tuple[int, str, str]:
    """Exit code and output of a command in a shell, whose environment is changed; None removes."""
    words = [word.format(out=out) for word in COMMANDS[name]]
    env = {k: v for k, v in {**os.environ, **changes}.items() if v is not None}
    shell = ["bash", "-o", "pipefail", "-c", f'"$@" {redirect}', "bash"]
    done = subprocess.run(
        [*shell, sys.executable, "-m", "drp_slam", *words], env=env, capture_output=True, timeout=120, check=False
    )
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_c_locale_without_a_home(tmp_path, name):
    poor = {"LC_ALL": "C", "LANG": None, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HOME": None}
    code, out, err = call(name, tmp_path / "é", **poor, XDG_CACHE_HOME=None)
    assert code == 0 and out and "Traceback" not in err, err


CLOSED, UNWRITABLE = [">&-", "2>&-"], ["| head -c 1", ">/dev/full"]
"""The last two meet a command only where the command line prints its result, the same for all."""


@pytest.mark.parametrize(
    ("name", "redirect"),
    [(n, r) for n in ("estimate", "convert") for r in CLOSED + UNWRITABLE] + [("run", r) for r in CLOSED],
)
def test_closed_standard_output(tmp_path, name, redirect):
    """Results in files are complete all the same."""
    code, out, err = call(name, tmp_path / "out", redirect)
    assert "Traceback" not in out + err and "Exception ignored" not in out + err, err
    assert redirect != "2>&-" or code == 0
    if name == "run":
        assert (tmp_path / "out" / "run.json").is_file() and (tmp_path / "out" / "trajectory.txt").is_file()
    if name == "convert":
        assert (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["run", "convert"])
@pytest.mark.parametrize("place", ["/proc/drp_slam", "{file}/x"])
def test_an_out_that_cannot_be_written_is_refused(tmp_path, name, place):
    (tmp_path / "file").write_text("mine")
    code, _, err = call(name, Path(place.format(file=tmp_path / "file")))
    assert code == 1 and "Traceback" not in err and err.strip().splitlines()[-1].startswith("drp_slam"), err
    assert (tmp_path / "file").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
