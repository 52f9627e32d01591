# SPDX-License-Identifier: Apache-2.0
"""Fast DDS's shared memory: checks its free space and removes what killed processes left. No ROS is imported.

A node that is killed leaves its segment in /dev/shm, up to 12 MB (`config/fastdds.xml`), where a
container has 64 MB in total. Fast DDS does not remove it; its command `fastdds shm clean` does, and
this module follows the same rule: while the owner of a segment or port lives, it holds a lock on the
file of that name with suffix `_el` or `_sl`. Ports without such a file (52 kB each) stay: there are
few of them, and the next process on the same domain takes them over.

A killed process has another consequence. The others keep its port mapped and send to it until they
notice that nobody listens: 20 s as a rule, for ever where the process was killed between waiting for a
message and taking it. A process that gets the same port makes its file anew, and either the others go
on sending to the old one, or one of them, which thinks that the port is its own to clean up, removes the
new one (Fast DDS 2.14 to 3.6: `SharedMemGlobal::Port` and `open_port_internal`). It then runs, is
discovered, and hears nothing. So a node takes a port that no process has mapped (`own_profile`), and
sees to it that its port stays where others find it (`lost_port`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from drp_slam import resources

FOLDER = Path("/dev/shm")
NEEDED_MB = 45
"""The four nodes, the player and `up` take 38 MB; the rest is for one more subscriber."""
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"
PORT_BASE, PORTS_OF_A_DOMAIN, PORTS_OF_A_PARTICIPANT, USER_PORT = 7400, 250, 2, 11
"""Which port a participant listens on: section 9.6.1 of DDSI-RTPS."""
PARTICIPANTS = range(8, 32)
"""Numbers for our processes: smaller ones are taken by those that let Fast DDS choose, larger ones are
not looked for by ROS 2 on one host (`maxInitialPeersRange` of rmw_fastrtps)."""
MAPPED = re.compile(rb"/fast(?:rtps|dds)_port(\d{1,5})\b")
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


def mapped_ports(processes: Path = Path("/proc")) -> set[int]:
    """Numbers of the ports that processes of this user have mapped, removed ones too."""
    found: set[int] = set()
    for entry in processes.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # another user's, or it has ended
                found |= {int(number) for number in MAPPED.findall((entry / "maps").read_bytes())}
    return found


def unused_participant(domain: int, mapped: Collection[int], pid: int) -> int:
    """A participant number whose port is not among those that are mapped.

    The search begins at another number in each process; where two choose the same one, Fast DDS gives the
    second the next.
    """
    numbers = [PARTICIPANTS[(pid + k) % len(PARTICIPANTS)] for k in range(len(PARTICIPANTS))]
    first = PORT_BASE + PORTS_OF_A_DOMAIN * domain + USER_PORT
    return min(numbers, key=lambda number: first + PORTS_OF_A_PARTICIPANT * number in mapped)


@contextlib.contextmanager
def own_profile(temporary: str | None = None) -> Iterator[None]:
    """While the middleware starts: the profile of `table.transport` with a participant number of our own.

    It is a file in `temporary` (default: the system's folder for such). A profile that the user has chosen
    is left as it is.
    """
    given, domain = Path(os.environ.get(PROFILE, "")), os.environ.get("ROS_DOMAIN_ID", "0")
    with contextlib.ExitStack() as stack:
        if given.parent == resources.share() / "config" and domain.isdecimal():
            number = unused_participant(int(domain), mapped_ports(), os.getpid())
            numbered = f"<rtps>\n      <participantID>{number}</participantID>"
            text = given.read_text(encoding="utf-8").replace("<rtps>", numbered, 1)
            with contextlib.suppress(OSError):  # nowhere to write: the number that Fast DDS chooses
                own = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".xml", dir=temporary))
                own.write(text)
                own.flush()
                stack.callback(os.environ.__setitem__, PROFILE, str(given))
                os.environ[PROFILE] = own.name
        yield


def lost_port(folder: Path = FOLDER) -> str:
    """The port that this process listens on and that others no longer find, or an empty string.

    A port is this process's where it holds the lock file, and lost where the file of that name is not the
    one that it has mapped.
    """
    begin = f"{folder}/fast"
    held = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        match = LOCK.fullmatch(target[len(str(folder)) + 1 :]) if target.startswith(begin) else None
        if match and "_port" in match[1] and int(match[1].rpartition("port")[2]) >= PORT_BASE:
            held.add(match[1])
    if not held:
        return ""
    mapped: dict[str, set[int]] = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        if begin in line:
            fields = line.split()
            mapped.setdefault(fields[5].removeprefix(f"{folder}/"), set()).add(int(fields[4]))
    for name in held & set(mapped):
        try:
            found = os.stat(folder / name).st_ino
        except OSError:
            return name
        if found not in mapped[name]:
            return name
    return ""
