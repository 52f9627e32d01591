# SPDX-License-Identifier: Apache-2.0
"""Downloads from a server of our own: whole, resumed, damaged, gone."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from drp_slam import resources
from drp_slam.data.download import Package, Published, fetch
from drp_slam.errors import DataError

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def server():
    """Serves CONTENT with ranges under any path but /gone; `ranges` is what was asked for."""
    ranges: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            ranges.append(asked)
            first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            if self.path == "/gone" or first >= len(CONTENT):
                self.send_error(404 if self.path == "/gone" else 416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(CONTENT) - first))
            self.end_headers()
            self.wfile.write(CONTENT[first:])

        def log_message(self, *_: object) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}", ranges
    served.shutdown()
    served.server_close()


def package(url: str, content: bytes = CONTENT) -> dict[str, Package]:
    return {"net": Package((Published("net.onnx", url, hashlib.sha256(content).hexdigest()),), "BSD-3-Clause")}


def test_a_file_is_fetched_once(server, tmp_path: Path) -> None:
    url, ranges = server
    for _ in range(2):
        (path,) = fetch("net", package(f"{url}/x"), tmp_path)
        assert path == tmp_path / "net" / "net.onnx" and path.read_bytes() == CONTENT
    assert ranges == [None] and [p.name for p in path.parent.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("have", [1000, len(CONTENT)])
def test_an_interrupted_download_resumes(server, tmp_path: Path, have: int) -> None:
    url, ranges = server
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "net.onnx.part").write_bytes(CONTENT[:have])
    (path,) = fetch("net", package(f"{url}/x"), tmp_path)
    assert path.read_bytes() == CONTENT and ranges == [f"bytes={have}-"]


def test_another_content_is_refused_and_not_kept(server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="SHA-256 .* expected"):
        fetch("net", package(f"{server[0]}/x", b"other"), tmp_path)
    assert not list((tmp_path / "net").iterdir())


def test_a_failed_download_is_one_line(server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="answered 404"):
        fetch("net", package(f"{server[0]}/gone"), tmp_path)
    with pytest.raises(DataError, match="run it again to resume"):
        fetch("net", package("http://127.0.0.1:9/x"), tmp_path)
    with pytest.raises(DataError, match="'yolo' cannot be fetched; known: net"):
        fetch("yolo", package("http://127.0.0.1:9/x"), tmp_path)


def test_a_fetched_network_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = resources.downloads() / "fastestdet" / "FastestDet.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert resources.network("fastestdet") == path
