"""A listener in the tests' own process; nodes under test always run in theirs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest


class Listener:
    """Subscribes, calls services, and waits."""

    def __init__(self, node: Any, executor: Any) -> None:
        self.node = node
        self._executor = executor
        self.heard: dict[str, list[Any]] = {}

    def listen(self, kind: Any, topic: str, qos: Any) -> list[Any]:
        """Collect the messages of a topic."""
        messages = self.heard.setdefault(topic, [])
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def until(self, true: Callable[[], Any], *, what: str, seconds: float = 30.0) -> Any:
        """Spin until something is so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.02)
            found = true()
            if found:
                return found
        raise AssertionError(
            f"{what} did not come in {seconds} s; heard { ({k: len(v) for k, v in self.heard.items()}) }"
        )

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, what=f"service {name}")
        future = client.call_async(request)
        self.until(future.done, what=f"answer of {name}")
        return future.result()


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch):
    """A node on domain 90, with the shipped transport."""
    rclpy = pytest.importorskip("rclpy")
    from rclpy.executors import SingleThreadedExecutor

    from vtt_ros import transport

    for name, value in transport.environment(domain=90).items():
        monkeypatch.setenv(name, value)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=90)
    node = rclpy.create_node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield Listener(node, executor)
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()
