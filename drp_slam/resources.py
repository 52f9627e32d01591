# SPDX-License-Identifier: Apache-2.0
"""Finds shipped files: the folders `config`, `models` and `launch` of the repository.

An install of any kind has them in the package's folder `share`; a source tree, which an editable
install is too, has them beside the package.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from drp_slam.errors import ResourceError


@lru_cache(maxsize=1)
def share() -> Path:
    """Folder that holds `config`, `models` and `launch`. Raises ResourceError if there is none."""
    package = Path(__file__).resolve().parent
    for folder in (package / "share", package.parent):
        if (folder / "config" / "devices").is_dir():
            return folder
    raise ResourceError(f"{package} has no folder share with config/devices; install drp_slam again")


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


def device_name(device: str) -> str:
    """A device file by its absolute path, a shipped device by its name. Raises ResourceError."""
    path = device_file(device).resolve()
    return path.stem if path.parent == (share() / "config" / "devices").resolve() else str(path)


def camera_file(name: str) -> Path:
    """YAML of a named camera, such as `tum_fr1`."""
    return find("config/cameras", name, (".yaml",))
