# SPDX-License-Identifier: Apache-2.0
"""Downloads third-party files that are not shipped: once, verified by SHA-256, resumable."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from drp_slam import resources
from drp_slam.atomic import make_folder
from drp_slam.errors import DataError

PIECE = 1 << 16
PATIENCE_S = 30.0
"""Timeout without data from the server."""


@dataclass(frozen=True)
class Published:
    """One file at a fixed version, checked by `sha256` (hexadecimal)."""

    name: str
    url: str
    sha256: str


@dataclass(frozen=True)
class Package:
    """Files that belong together, and their licence."""

    files: tuple[Published, ...]
    licence: str


_FASTESTDET = (
    "https://raw.githubusercontent.com/dog-qiuqiu/FastestDet/50473cd155cb088aa4a99e64ff6a4b3c24fa07e1/"
    "example/onnx-runtime/"
)
PACKAGES: Mapping[str, Package] = {
    "fastestdet": Package(
        (
            Published(
                "FastestDet.onnx",
                _FASTESTDET + "FastestDet.onnx",
                "31cb14c017fce347cb4c846ec62fdf00d76bb3beecdf4be21e7116ac67feb880",
            ),
            Published(
                "coco.names",
                _FASTESTDET + "coco.names",
                "634a1132eb33f8091d60f2c346ababe8b905ae08387037aed883953b7329af84",
            ),
        ),
        "BSD-3-Clause",
    )
}
"""Packages by the name that `fetch` and other commands use."""


def fetch(name: str, packages: Mapping[str, Package] = PACKAGES, folder: Path | None = None) -> list[Path]:
    """The files of a package, downloaded if missing into `folder` (default: the user's cache).

    Raises DataError for an unknown name, a failed download, or a wrong checksum.
    """
    if name not in packages:
        raise DataError(f"{name!r} cannot be fetched; known: {', '.join(sorted(packages))}")
    folder = make_folder((folder or resources.downloads()) / name)
    return [_file(published, folder / published.name) for published in packages[name].files]


def _file(published: Published, path: Path) -> Path:
    if path.is_file() and resources.sha256(path) == published.sha256:
        return path
    part = path.with_name(f"{path.name}.part")
    _download(published.url, part)
    found = resources.sha256(part)
    if found != published.sha256:
        part.unlink(missing_ok=True)
        raise DataError(
            f"{published.url}: content has SHA-256 {found[:12]}..., expected {published.sha256[:12]}...; nothing was "
            "kept: try again, or give a file by path"
        )
    os.replace(part, path)
    return path


def _download(url: str, part: Path) -> None:
    """Resumes after the bytes of an earlier attempt in `part`, if the server supports it."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            goes_on = have > 0 and getattr(answer, "status", 200) == 206
            with part.open("ab" if goes_on else "wb") as file:
                while piece := answer.read(PIECE):
                    file.write(piece)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # complete already
            return
        raise DataError(
            f"{url}: the server answered {error.code} {error.reason}; give a file by path instead"
        ) from error
    except OSError as error:
        kept = part.stat().st_size if part.is_file() else 0
        raise DataError(
            f"{url}: {getattr(error, 'reason', None) or error}; {kept} bytes are kept, run it again to resume"
        ) from error
