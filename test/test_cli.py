# SPDX-License-Identifier: Apache-2.0
"""One manner for every command: help with an example, light imports, one line for an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from drp_slam import cli

NAMES = [command.name for command in cli.COMMANDS]
HEAVY = {"cv2", "onnx", "onnxruntime", "torch", "matplotlib", "rich", "rclpy", "rosbags", "gtsam"}


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "drp_slam", *argv], capture_output=True, text=True)


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0
    assert f"python -m drp_slam {name}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", NAMES)
def test_every_command_names_functions_that_exist(name: str) -> None:
    command = next(c for c in cli.COMMANDS if c.name == name)
    if ".pruning" in command.handler:
        pytest.importorskip("torch")
    if ".nodes" in command.handler:
        pytest.importorskip("rclpy")
    assert callable(cli.resolve(command.handler))
    assert callable(cli.resolve(command.show))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from drp_slam.cli import parser; parser().format_help();"
        f"heavy = {HEAVY!r} & {{m.split('.')[0] for m in sys.modules}}; print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_deliberate_error_is_one_line_and_exit_code_1() -> None:
    done = run("run", "/no/such/sequence", "--json")
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and "/no/such/sequence" in lines[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "COMMAND"),
        (("fly",), "'fly'"),
        (("run",), "sequence"),
        (("run", "synthetic", "--frames", "few"), "--frames: invalid int value: 'few'"),
        (("up", "--backend", "gpu"), "--backend: invalid choice: 'gpu'"),
        (("run", "synthetic", "--fast"), "--fast"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_1(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 1 and len(lines) == 1
    assert words in lines[0] and lines[0].endswith("--help")


def test_version_is_the_package_s() -> None:
    from drp_slam import __version__

    assert run("--version").stdout.strip() == __version__


def test_json_is_one_object(tmp_path) -> None:
    done = run("run", "synthetic", "--frames", "3", "--out", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["frames"] == 3


def test_what_a_library_prints_is_no_result(capfd: pytest.CaptureFixture[str]) -> None:
    """Fast DDS, for one, logs to standard output, from C++."""
    with cli.result_alone():
        os.write(1, b"from C++\n")
    print("result")
    out, err = capfd.readouterr()
    assert out == "result\n"
    assert "from C++" in err
