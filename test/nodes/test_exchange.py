# SPDX-License-Identifier: Apache-2.0
"""Queues between nodes of one process: bounded, newest first kept, in order, one callback at a time."""

from __future__ import annotations

import threading

import pytest

from drp_slam.nodes.exchange import Exchange, Inbox, Worker


def test_keeps_the_newest_as_deep_as_asked_and_the_order_of_arrival():
    exchange, heard = Exchange(), []
    assert exchange.find("/a") is None
    a, b = exchange.advertise("/a"), exchange.advertise("/b")
    assert exchange.find("/a") is a is exchange.advertise("/a")
    inbox = Inbox(threading.RLock())
    assert not a.put("nobody listens")
    a.join(inbox, lambda m: heard.append(("a", m)), 2)
    b.join(inbox, lambda m: heard.append(("b", m)), 9)
    for k in range(5):
        assert a.put(k) and b.put(k)
    inbox.put(lambda: heard.append("called"))
    inbox.end()
    inbox.run()
    assert [m for m in heard if m[0] == "a"] == [("a", 3), ("a", 4)]
    assert [m for m in heard if m[0] == "b"] == [("b", k) for k in range(5)]
    assert heard[-1] == "called"
    a.put(9)
    exchange.leave(inbox)
    assert not a.put(10) and not b.put(10)
    heard.clear()
    inbox.run()
    assert not heard


def test_many_threads_lose_nothing():
    inbox, heard = Inbox(threading.RLock()), []
    topic = Exchange().advertise("/a")
    topic.join(inbox, heard.append, 10**6)
    worker = Worker(inbox, "test")
    threads = [threading.Thread(target=lambda k=k: [topic.put((k, i)) for i in range(500)]) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.end()
    worker.check()
    for k in range(4):
        assert [i for who, i in heard if who == k] == list(range(500))


def test_an_error_of_a_callback_is_not_lost():
    inbox = Inbox(threading.RLock())
    worker = Worker(inbox, "test")
    inbox.put(lambda: 1 / 0)
    worker.end()
    with pytest.raises(ZeroDivisionError):
        worker.check()
