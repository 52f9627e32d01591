# SPDX-License-Identifier: Apache-2.0
"""Any kind of install finds its files: a wheel in a folder, in a fresh environment, and an editable one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("drp_slam", "config", "launch", "models", "resource")
LOOKUP = (
    "import drp_slam; from drp_slam import resources as r; print(drp_slam.__file__);"
    "files = [r.network('xfeat'), r.device_file('rzv2n'), r.camera_file('tum_fr1'), r.share() / 'config/drp_slam.yaml',"
    "r.share() / 'launch/slam.launch.py', r.share() / 'config/rviz/slam.rviz'];"
    "assert all(f.is_file() and f.stat().st_size for f in files); print(r.share())"
)


def call(*command: str | Path, cwd: Path, path: str = "", base: Path | None = None) -> str:
    """Standard output of a command that ends well, without this checkout on Python's path.

    `base` is the user's folder, below which `pip install --user` puts packages.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | ({"PYTHONPATH": path} if path else {})
    environment |= {"PYTHONUSERBASE": str(base)} if base else {}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pip(python: str | Path, *arguments: str | Path, cwd: Path) -> None:
    call(python, "-m", "pip", "-q", "--disable-pip-version-check", *arguments, cwd=cwd)


def pip_version() -> tuple[int, int]:
    """Of the interpreter alone, as the tests below call it; (0, 0) where it has no pip or no setuptools."""
    code = "import setuptools; import pip; print(pip.__version__)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd="/", env=environment, capture_output=True, text=True)
    major, minor = (done.stdout.split(".") if done.returncode == 0 else ["0", "0"])[:2]
    return int(major), int(minor)


if pip_version() < (22, 3):
    pytest.skip("needs setuptools and pip 22.3 or newer in this interpreter", allow_module_level=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, since building writes into it."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "setup.cfg", "pyproject.toml", "package.xml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / file, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source, cwd=folder)
    return next(folder.glob("*.whl"))


def python_of(environment: Path, borrow: bool = False) -> Path:
    """A fresh virtual environment; with `borrow` it sees the packages of the running interpreter."""
    venv.create(environment, with_pip=False, symlinks=True)
    if borrow:
        packages = next(environment.glob("lib/python3.*/site-packages"))
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin" / "python"


def test_a_wheel_in_a_folder(wheel: Path, tmp_path: Path) -> None:
    pip(sys.executable, "install", "--no-deps", "--target", tmp_path / "here", wheel, cwd=tmp_path)
    out = call(sys.executable, "-c", LOOKUP, cwd=tmp_path, path=str(tmp_path / "here")).split()
    assert out == [str(tmp_path / "here/drp_slam/__init__.py"), str(tmp_path / "here/drp_slam/share")]


def test_an_install_for_one_user(wheel: Path, tmp_path: Path) -> None:
    """Into the interpreter that environments are made from, as `pip install --user` on a plain system."""
    python = getattr(sys, "_base_executable", sys.executable)
    options = ["--user", "--no-deps", "--no-warn-script-location"]
    if next(Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix})).glob("EXTERNALLY-MANAGED"), None):
        options.append("--break-system-packages")
    base = tmp_path / "user"
    try:
        call(python, "-m", "pip", "--version", cwd=tmp_path)
    except AssertionError:
        pytest.skip("the system's Python has no pip")
    call(python, "-m", "pip", "-q", "--disable-pip-version-check", "install", *options, wheel, cwd=tmp_path, base=base)
    package, share = call(python, "-c", LOOKUP, cwd=tmp_path, base=base).split()
    assert package.startswith(str(base)) and share.startswith(str(base))


def test_a_wheel_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    python = python_of(tmp_path / "venv")
    pip(sys.executable, "--python", python, "install", "--no-deps", wheel, cwd=tmp_path)
    assert call(python, "-c", LOOKUP, cwd=tmp_path).split()[1].endswith("site-packages/drp_slam/share")
    assert "--sparsity" in call(python, "-m", "drp_slam", "estimate", "--help", cwd=tmp_path)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-m", "drp_slam", "estimate", "xfeat"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "-m pip install 'drp_slam'" in done.stderr and len(done.stderr.splitlines()) == 1


def test_an_editable_install(source: Path, tmp_path: Path) -> None:
    python = python_of(tmp_path / "venv", borrow=True)
    pip(python, "install", "--no-deps", "--no-build-isolation", "-e", source, cwd=tmp_path)
    assert call(python, "-c", LOOKUP, cwd=tmp_path).split() == [str(source / "drp_slam/__init__.py"), str(source)]


@pytest.mark.parametrize("options", [(), ("--symlink-install",)], ids=["plain", "symlink"])
def test_colcon(source: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    colcon = shutil.which("colcon")
    if colcon is None:
        pytest.skip("needs colcon; CI has it in the ROS containers")
    shutil.copytree(source, tmp_path / "src/drp_slam", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    call(colcon, "build", *options, cwd=tmp_path)
    script = f'. install/setup.sh && cd / && {sys.executable} -c "$LOOKUP"'
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"LOOKUP": LOOKUP}
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
