# SPDX-License-Identifier: Apache-2.0
"""`import drp_slam` is light and offers the public names, with their types."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import drp_slam


@pytest.mark.parametrize("name", drp_slam.__all__)
def test_a_public_name_is_what_its_module_defines(name: str) -> None:
    found = getattr(drp_slam, name)
    assert name == "__version__" or callable(found)
    assert name in dir(drp_slam)


def test_type_checkers_see_the_names_that_are_imported_at_run_time() -> None:
    tree = ast.parse(Path(drp_slam.__file__).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    seen = {
        alias.asname or alias.name: f"{line.module.removeprefix('drp_slam.')}:{alias.name}"
        for line in block.body
        if isinstance(line, ast.ImportFrom) and line.module
        for alias in line.names
    }
    assert seen == drp_slam._HOMES
    assert set(drp_slam.__all__) == {*seen, "__version__"}
    assert (Path(drp_slam.__file__).parent / "py.typed").is_file()


def test_the_example_of_the_package_runs(tmp_path: Path) -> None:
    sequence = drp_slam.open_sequence("synthetic", frames=3)
    assert drp_slam.run(sequence, drp_slam.Config(), tmp_path / "new/folder")["frames"] == 3
    assert drp_slam.report(tmp_path / "new/folder")["tracked"] == 3


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'fly'"):
        _ = drp_slam.fly


def test_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import drp_slam; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} <= {"drp_slam", "importlib", "typing"} | set(
        sys.stdlib_module_names
    )
