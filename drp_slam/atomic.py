# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drp_slam.errors import DrpSlamError


@contextmanager
def replacing(path: Path, error: type[DrpSlamError]) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` where the block ends well.

    Raises `error`, which names `path` and the remedy, for what the system refuses.
    """
    temporary = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as refused:
        raise error(
            f"{path}: cannot write: {refused.strerror or refused}; free the disk or name another folder with --out"
        ) from refused
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, error: type[DrpSlamError]) -> None:
    """Writes a text file. Raises `error` as `replacing` does."""
    with replacing(path, error) as temporary:
        temporary.write_text(text)
