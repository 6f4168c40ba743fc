"""The operator's side of the gate, and the base of processes that obey words from stdin.

Each prints one JSON line per event, with the steady clock's time `t` in ns, which all processes of a machine share.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from vtt_ros.messages import LATCHED, LATEST
from vtt_ros.running import run

__all__ = ["Actor", "Operator", "main", "say"]

_POLL = 0.002


def say(**event: object) -> None:
    """Print an event."""
    print(json.dumps({"t": time.monotonic_ns(), **event}), flush=True)


class Actor(ABC):
    """A node that obeys words from stdin."""

    def __init__(self, name: str) -> None:
        self.node = rclpy.create_node(name)
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._words: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.every(_POLL, self._poll)
        say(ready=name)

    def stop(self) -> None:  # noqa: B027 - most have nothing to close
        """Nothing to close."""

    @abstractmethod
    def obey(self, word: str) -> None:
        """Do as told."""

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something again and again, by the steady clock."""
        self.node.create_timer(seconds, call, clock=self.steady)

    def _read(self) -> None:
        for line in sys.stdin:
            self._words.put(line.strip())

    def _poll(self) -> None:
        while not self._words.empty():
            self.obey(self._words.get())


class Operator(Actor):
    """Gives the permit at 10 Hz, arms and resets, and prints what the gate and a simulated robot say of themselves."""

    def __init__(self) -> None:
        super().__init__("operator")
        self._permit: bool | None = True
        self._publisher = self.node.create_publisher(Bool, "safety/permit", LATEST)
        names = {"arm": "safety/arm", "disarm": "safety/disarm", "reset": "safety/reset", "episode": "sim/reset"}
        self._services = {word: self.node.create_client(Trigger, name) for word, name in names.items()}
        self.node.create_subscription(DiagnosticStatus, "safety/state", self._hear, LATCHED)
        self.node.create_subscription(DiagnosticStatus, "sim/episode", self._hear_episode, LATCHED)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._hear_diagnostics, 10)
        self.every(0.1, self._give)

    def obey(self, word: str) -> None:
        """Call a service, or change the permit: permit, forbid (an emergency stop), vanish."""
        if word in self._services:
            future = self._services[word].call_async(Trigger.Request())
            future.add_done_callback(lambda done: self._answer(word, done.result()))
            return
        began = time.monotonic_ns()
        self._permit = {"permit": True, "forbid": False, "vanish": None}[word]
        self._give()
        say(sent=word, t=began)

    @staticmethod
    def _answer(word: str, response: Trigger.Response) -> None:
        say(answer=word, ok=response.success, text=response.message)

    def _give(self) -> None:
        if self._permit is not None:
            self._publisher.publish(Bool(data=self._permit))

    def _hear(self, message: DiagnosticStatus) -> None:
        values = {pair.key: pair.value for pair in message.values}
        say(state=values.get("mode", ""), text=message.message)

    def _hear_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            say(node=status.name, says=status.message, **{pair.key: pair.value for pair in status.values})

    def _hear_episode(self, message: DiagnosticStatus) -> None:
        say(episode=message.message, **{pair.key: json.loads(pair.value) for pair in message.values})


def main() -> int:
    """Run the operator."""
    return run(Operator)


if __name__ == "__main__":
    raise SystemExit(main())
