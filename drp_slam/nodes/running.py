# SPDX-License-Identifier: Apache-2.0
"""Runs nodes in a process, from creation to shutdown, when they write their results."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from drp_slam.errors import DrpSlamError
from drp_slam.nodes.child import keep_freed_memory
from drp_slam.nodes.exchange import Worker
from drp_slam.nodes.shared_memory import own_profile

if TYPE_CHECKING:
    from drp_slam.nodes.base import StageNode

LEAVING_S = 5.0
"""A finished node leaves the graph within this time, or SIGALRM ends it."""


class Finished(Exception):
    """The node has finished its work."""


def run(name: str, make: Callable[[], StageNode], args: Sequence[str] | None = None) -> int:
    """Runs the node `name` until SIGINT, SIGTERM or its own end; returns the exit code."""
    return run_all(name, lambda: [make()], args)


def run_all(name: str, make: Callable[[], Sequence[StageNode]], args: Sequence[str] | None = None) -> int:
    """Runs nodes in this process until SIGINT, SIGTERM or the end of one of them; returns the exit code."""
    try:
        spin(lambda: begun(make()), args)
    except DrpSlamError as error:
        print(f"drp_slam {name}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return 1
    return 0


def begun(nodes: Sequence[StageNode]) -> Sequence[StageNode]:
    """Activates the nodes whose parameter `autostart` is true.

    All are configured before the first is activated, so that each knows which topics the others in the process
    publish. Raises DrpSlamError.
    """
    starting = [node for node in nodes if node.graph.autostart]
    try:
        for node in starting:
            node.attempt(node.trigger_configure)
        for node in starting:
            node.attempt(node.trigger_activate)
    except BaseException:
        for node in nodes:
            node.destroy_node()
        raise
    return nodes


def spin(make: Callable[[], Sequence[Any]], args: Sequence[str] | None = None) -> None:
    """Creates nodes and spins them until SIGINT, SIGTERM or the end of one. Raises the error that ended them early.

    The parent process blocks SIGINT until here (`processes`). After a signal the current callback
    finishes: KeyboardInterrupt raised inside rclpy's conversion of a message becomes another error.
    The health timer wakes the executor to notice the signal.
    """
    import cv2

    cv2.setNumThreads(1)  # the nodes are the parallelism
    keep_freed_memory()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    stop: list[int] = []  # not an Event, whose lock is unsafe in signal handlers
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stop.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    nodes: Sequence[Any] = ()
    workers: list[Worker] = []
    try:
        with own_profile():
            rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
            nodes = make()
        executor = SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        workers = [Worker(node.inbox, node.get_name()) for node in nodes if getattr(node, "inbox", None)]
        gc.freeze()  # the objects of a running node live until its end
        while not stop:
            executor.spin_once()
            for worker in workers:
                worker.check()
    except (ExternalShutdownException, Finished):
        pass
    finally:
        try:
            close(nodes, workers)
        finally:
            # Fast DDS may wait forever for a killed process while it holds the interpreter lock;
            # nothing can be lost any more, so let SIGALRM end the process.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, LEAVING_S)
            for node in nodes:
                node.destroy_node()
            rclpy.try_shutdown()
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def close(nodes: Sequence[Any], workers: Sequence[Worker]) -> None:
    """Writes the results of every node, in order, even if one fails. Raises the first error."""
    with contextlib.ExitStack() as ends:
        for node in reversed(nodes):
            ends.callback(node.close)
        for worker in reversed(workers):
            ends.callback(worker.end)
