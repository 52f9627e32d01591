# SPDX-License-Identifier: Apache-2.0
"""Fast DDS's shared memory: checks its free space and removes what killed processes left. No ROS is imported.

A node that is killed leaves its segment in /dev/shm, up to 12 MB (`config/fastdds.xml`), where a
container has 64 MB in total. Fast DDS does not remove it; its command `fastdds shm clean` does, and
this module follows the same rule: while the owner of a segment or port lives, it holds a lock on the
file of that name with suffix `_el` or `_sl`. Ports without such a file (52 kB each) stay: there are
few of them, and the next process on the same domain takes them over.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from pathlib import Path

FOLDER = Path("/dev/shm")
NEEDED_MB = 45
"""The four nodes, the player and `up` take 38 MB; the rest is for one more subscriber."""
LOCK = re.compile(r"(fast(?:rtps|dds)_(?:[0-9a-f]{16}|port\d{1,5}))_(?:el|sl)")


def lacking_room(folder: Path = FOLDER, needed_mb: float = NEEDED_MB) -> str:
    """A warning where shared memory is too small for the graph's messages, else an empty string."""
    try:
        free_mb = shutil.disk_usage(folder).free / 1e6
    except OSError:
        return ""
    if free_mb >= needed_mb:
        return ""
    return (
        f"{folder} has {free_mb:.0f} MB free, the nodes want {needed_mb:.0f}: images go through "
        "the network instead, which is slower; end other graphs, or start the container with "
        "--shm-size=256m"
    )


def remove_orphans(folder: Path = FOLDER) -> list[str]:
    """Removes segments and ports of dead owners and returns their names. Those of other users are kept."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # no shared memory on this system
        return []
    owned = [(match[1], folder / name) for name in names if (match := LOCK.fullmatch(name))]
    return [name for name, lock in owned if _removed(name, lock)]


def _removed(name: str, lock: Path) -> bool:
    """Removes one segment or port while holding its lock, so that no process takes it meanwhile.

    After locking a file, Fast DDS checks whether the file still exists.
    """
    try:
        file = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in (lock.with_name(name), lock.with_name(f"sem.{name}_mutex"), lock):
            path.unlink(missing_ok=True)
    except OSError:  # its owner is alive, or another user
        return False
    finally:
        os.close(file)
    return True
