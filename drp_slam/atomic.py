# SPDX-License-Identifier: Apache-2.0
"""Files that are complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drp_slam.errors import DrpSlamError


@contextmanager
def replacing(path: Path, error: type[DrpSlamError]) -> Iterator[Path]:
    """Yield a name beside `path` to write to; rename it to `path` when the block ends without an exception.

    Raises `error`, with the path, the reason and the remedy, for every OSError.
    """
    temporary = _beside(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as refused:
        raise error(
            f"{path}: cannot write: {refused.strerror or refused}; what was there is kept; "
            "free the disk or name another folder with --out"
        ) from refused
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, error: type[DrpSlamError]) -> None:
    """Write a text file. Raises `error` as `replacing` does."""
    write_bytes(path, text.encode(), error)


def write_bytes(path: Path, content: bytes, error: type[DrpSlamError]) -> None:
    """Write a binary file. Raises `error` as `replacing` does."""
    with replacing(path, error) as temporary:
        temporary.write_bytes(content)


def _beside(path: Path) -> Path:
    """A temporary name in the same folder, so that a rename is enough; one for each process."""
    return path.with_name(f"{path.name}.part{os.getpid()}")
