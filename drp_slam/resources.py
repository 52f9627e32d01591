# SPDX-License-Identifier: Apache-2.0
"""Finds shipped files (the folders `config`, `models` and `launch` of the repository) and reads untrusted
files safely.

An install of any kind has them in the package's folder `share`; a source tree, which an editable
install is too, has them beside the package.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from drp_slam.errors import DrpSlamError, ResourceError

if TYPE_CHECKING:
    import numpy as np

LONGEST_YAML = 1 << 20
"""Bytes of a YAML file; the largest shipped file has 10 kB."""
DEEPEST_YAML = 50
LONGEST_TEXT = 1 << 28
"""Bytes of a list, a table or a trajectory: a day at 30 Hz has 200 MB."""
LONGEST_ARRAYS = 1 << 29
"""Bytes of the arrays in one file: a hundred inputs of 1280 x 960 pixels."""


@lru_cache(maxsize=1)
def share() -> Path:
    """Folder that holds `config`, `models` and `launch`. Raises ResourceError if there is none."""
    package = Path(__file__).resolve().parent
    for folder in (package / "share", package.parent):
        if (folder / "config" / "devices").is_dir():
            return folder
    raise ResourceError(f"{package} has no folder share with config/devices; install drp_slam again")


def find(kind: str, name: str, suffixes: tuple[str, ...]) -> Path:
    """The file of a path, or of a name in the shipped folder `kind` (such as `models`).

    Raises ResourceError that lists what is shipped.
    """
    path = user_path(name)
    if os.path.isfile(path):
        return path
    folder = share() / kind
    for suffix in suffixes:
        if os.path.isfile(folder / f"{name}{suffix}"):
            return folder / f"{name}{suffix}"
    shipped = sorted({p.name.removesuffix(s) for s in suffixes for p in folder.glob(f"*{s}")})
    raise ResourceError(f"{name!r} is neither a file nor shipped in {kind}/; shipped: {', '.join(shipped) or 'none'}")


def network(name: str) -> Path:
    """ONNX file of a shipped network, of a downloaded one (`fetch`), or the path given."""
    folder = downloads() / name
    fetched = sorted(folder.glob("*.onnx")) if name.isidentifier() and os.path.isdir(folder) else []
    return fetched[0] if len(fetched) == 1 and not os.path.isfile(name) else find("models", name, (".onnx",))


def downloads() -> Path:
    """Folder of downloads by `fetch`: `drp_slam` in the user's cache (XDG_CACHE_HOME)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drp_slam"


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


def user_path(name: str | Path) -> Path:
    """The path with `~` expanded, if there is such a home."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def read_regular(path: Path, limit: int, error: type[DrpSlamError], remedy: str = "give another file") -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Raises `error` as `regular` does."""
    with regular(path, limit, error, remedy) as file:
        data = file.read()  # not of `limit` bytes: Python would reserve them all
    if len(data) > limit:
        raise error(f"{path}: more than the {limit} bytes that are expected at most; {remedy}")
    return data


@contextmanager
def regular(path: Path, limit: int, error: type[DrpSlamError], remedy: str) -> Iterator[BinaryIO]:
    """A regular file of at most `limit` bytes, open to read.

    Raises `error`, also for a FIFO, a device or a folder: reading those may block or never end.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise error(f"{path}: not a regular file; {remedy}")
            if about.st_size > limit:
                raise error(f"{path}: {about.st_size} bytes, expected at most {limit}; {remedy}")
            yield file
    except OSError as refused:
        raise error(f"{path}: cannot read: {refused.strerror or refused}; {remedy}") from refused
    except ValueError as refused:
        if "\0" not in str(path):
            raise
        raise error(f"{str(path)!r}: cannot read: {refused}; {remedy}") from refused


def read_gzip(path: Path, limit: int, error: type[DrpSlamError], remedy: str = "give another file") -> bytes:
    """The contents of a gzip file, at most `limit` bytes. Raises `error`."""
    with regular(path, limit, error, remedy) as file:
        try:
            data = gzip.GzipFile(fileobj=file).read(limit + 1)
        except (OSError, EOFError, zlib.error) as broken:
            raise error(f"{path}: cannot read: {broken}; {remedy}") from broken
    if len(data) > limit:
        raise error(f"{path}: unpacks to more than the {limit} bytes that are expected at most; {remedy}")
    return data


def read_npz(
    path: Path, error: type[DrpSlamError], limit: int = LONGEST_ARRAYS, remedy: str = "write it with numpy.savez"
) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file, of at most `limit` bytes together; pickled objects are refused. Raises `error`.

    Sizes and shapes that the archive states are verified before use.
    """
    import numpy as np

    with regular(path, limit, error, remedy) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(member.file_size for member in archive.infolist())
                if size > limit:
                    raise error(f"{path}: unpacks to {size} bytes, expected at most {limit}; {remedy}")
                return {name.removesuffix(".npy"): _array(np, archive.read(name)) for name in archive.namelist()}
        except DrpSlamError:
            raise
        except Exception as broken:  # zipfile and numpy raise various errors for damaged bytes
            first = next(iter(str(broken).splitlines()), type(broken).__name__)
            raise error(f"{path}: cannot read: {first[:200]}; {remedy}") from broken


def _array(np: Any, data: bytes) -> Any:
    """One array of numbers, whose size matches its header. Raises ValueError."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"an array of shape {shape} and type {dtype} in {len(data)} bytes")
    return np.load(io.BytesIO(data), allow_pickle=False)


def read_text(
    path: Path, error: type[DrpSlamError], limit: int = LONGEST_TEXT, remedy: str = "give another file"
) -> str:
    """The text of a regular UTF-8 file, whatever the locale. Raises `error`."""
    try:
        return read_regular(path, limit, error, remedy).decode()
    except UnicodeDecodeError as broken:
        raise error(f"{path}: cannot read: not UTF-8 at byte {broken.start}; {remedy}") from broken


def read_yaml(path: Path, error: type[DrpSlamError]) -> Any:
    """The contents of a YAML file. Raises `error` as `parse_yaml` does."""
    return parse_yaml(read_text(path, error, LONGEST_YAML), str(path), error)


def parse_yaml(text: str, where: str, error: type[DrpSlamError]) -> Any:
    """The contents of a YAML text: plain values, lists and mappings.

    Aliases are refused: a few nested ones expand to gigabytes, and one can be infinite.
    Raises `error`, with `where`.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST_YAML or isinstance(event, yaml.AliasEvent):
                what = "an alias (*name)" if depth <= DEEPEST_YAML else f"more than {DEEPEST_YAML} levels"
                line = event.start_mark.line + 1 if event.start_mark else 0
                raise error(f"{where}: cannot read: line {line} has {what}; write it out")
        return yaml.load(text, Loader=loader)
    except DrpSlamError:
        raise
    except Exception as broken:  # PyYAML's constructors raise various errors for a tag on the wrong scalar
        first = next(iter(str(broken).splitlines()), type(broken).__name__)
        raise error(f"{where}: cannot read: {first[:200]}") from broken
