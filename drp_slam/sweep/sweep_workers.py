# SPDX-License-Identifier: Apache-2.0
"""Measures the points of a sweep in parallel: processes of this machine, or a dask cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from drp_slam.errors import DrpSlamError, pip_install

if TYPE_CHECKING:
    from drp_slam.evaluation.measured import Measured
    from drp_slam.sweep.sweep_point import Outcome, Point


def completed(
    points: Sequence[Point], reference: Measured, scheduler: str | None, jobs: int | None
) -> Iterator[tuple[Point, Outcome | Exception]]:
    """Measures the points in parallel, here or on a cluster; yields each when it is done."""
    if scheduler:
        yield from _on_cluster(points, reference, scheduler)
    else:
        yield from _here(points, reference, jobs or os.cpu_count() or 1)


def _here(points: Sequence[Point], reference: Measured, jobs: int) -> Iterator[tuple[Point, Outcome | Exception]]:
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    from drp_slam.sweep.sweep_point import measure

    with ProcessPoolExecutor(min(jobs, len(points)), get_context("spawn")) as pool:
        running = {pool.submit(measure, point, reference): point for point in points}
        try:
            for future in as_completed(running):
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise DrpSlamError(
                        "a worker was killed, perhaps for memory; start the sweep "
                        "again with fewer --jobs: finished points are kept"
                    ) from error
                if error is not None and not isinstance(error, DrpSlamError):
                    raise error
                yield running[future], error if isinstance(error, Exception) else future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _on_cluster(
    points: Sequence[Point], reference: Measured, address: str
) -> Iterator[tuple[Point, Outcome | Exception]]:
    """On the workers of a running dask.distributed scheduler. They must have drp_slam installed and find
    the recording under the same path; results and networks are returned over the network."""
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError as error:
        raise DrpSlamError(f"--scheduler needs dask.distributed: {pip_install('drp_slam[sweep]')}") from error
    from drp_slam.sweep.sweep_point import measure

    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise DrpSlamError(
            f"--scheduler {address}: cannot connect: {error}; start one with dask "
            "scheduler, and workers with dask worker"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise DrpSlamError(f"--scheduler {address}: no worker; start some with dask worker {address}")
        tables = client.scatter(reference, broadcast=True)
        running = {client.submit(measure, point, tables, pure=False): point for point in points}
        for future in as_completed(running):
            failure = future.exception()
            if isinstance(failure, KilledWorker):
                failure = DrpSlamError("its workers were killed, perhaps for memory")
            if failure is not None and not isinstance(failure, DrpSlamError):
                raise failure
            yield running[future], failure if failure is not None else future.result()
