# SPDX-License-Identifier: Apache-2.0
"""Finds shipped files (`config/`, `models/`, `launch/`), which lie outside the Python package.

Looked for in this order: a source tree, `sys.prefix/share/drp_slam`, the ament index.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path

from drp_slam.errors import ResourceError

PACKAGE = "drp_slam"


@lru_cache(maxsize=1)
def share() -> Path:
    """Folder that holds `config/` and `models/`. Raises ResourceError if there is none."""
    candidates = [Path(__file__).resolve().parent.parent, Path(sys.prefix) / "share" / PACKAGE]
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix:
            candidates.append(Path(prefix) / "share" / PACKAGE)
    for folder in candidates:
        if (folder / "config" / "devices").is_dir():
            return folder
    looked = ", ".join(str(c) for c in candidates)
    raise ResourceError(f"no config/devices folder of {PACKAGE} found; looked in: {looked}")


def find(kind: str, name: str, suffixes: tuple[str, ...]) -> Path:
    """A file given by path, or by name in the shipped folder `kind` (such as `models`).

    Raises ResourceError that lists what is shipped.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    folder = share() / kind
    for suffix in suffixes:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    shipped = sorted({p.name.removesuffix(s) for s in suffixes for p in folder.glob(f"*{s}")})
    raise ResourceError(f"{name!r} is neither a file nor shipped in {kind}/; shipped: {', '.join(shipped) or 'none'}")


def network(name: str) -> Path:
    """ONNX file of a shipped network, or the path given."""
    return find("models", name, (".onnx",))


def device_file(name: str) -> Path:
    """YAML of a device model, such as `rzv2h`."""
    return find("config/devices", name, (".yaml",))


def camera_file(name: str) -> Path:
    """YAML of a named camera, such as `tum_fr1`."""
    return find("config/cameras", name, (".yaml",))
