"""Start the processes of a graph, listen to what they print, stop all of them whatever happens."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from vtt.errors import StateError, missing
from vtt_ros import transport

__all__ = ["Child", "Graph"]

_GRACE = 2.0
_ASK_AGAIN = 2.0


class Child:
    """One process of a graph.

    Args:
        name: What it is called in messages.
        command: Its command line.
        environment: Its whole environment.
    """

    def __init__(self, name: str, command: Sequence[str], *, environment: Mapping[str, str]) -> None:
        self.name = name
        self.events: list[dict[str, Any]] = []
        self.output: list[str] = []
        self._fresh: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def tell(self, word: str) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], *, timeout: float, what: str) -> dict[str, Any]:
        """Wait for an event that it prints from now on, or printed since the last such wait.

        Raises:
            StateError: If it does not come in time, or the process ended; with its last lines.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                event = self._fresh.get(timeout=min(0.1, max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                ended = self.process.poll() is not None and self._fresh.empty()
                if ended or time.monotonic() > deadline:
                    why = f"it ended with {self.process.returncode}" if ended else f"nothing came in {timeout} s"
                    lines = " | ".join(self.output[-5:])
                    raise StateError(f"{self.name} must say {what}: {why}. Its last lines: {lines}") from None
                continue
            if wanted(event):
                return event

    def ask(self, word: str, *, timeout: float) -> dict[str, Any]:
        """Tell it a word until it prints the answer; a service that has just died may have swallowed the first.

        Raises:
            StateError: If none comes in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            self.tell(word)
            try:
                return self.wait_for(
                    lambda event: event.get("answer") == word, timeout=_ASK_AGAIN, what=f"answer {word}"
                )
            except StateError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise

    def forget(self) -> None:
        """Leave out what it has said so far from the next wait."""
        while not self._fresh.empty():
            self._fresh.get()

    def send_signal(self, number: int) -> None:
        """Send a signal to it and its children."""
        os.killpg(self.process.pid, number)

    def end(self, *, grace: float = _GRACE) -> int:
        """Ask it to stop, then make it; return its exit status."""
        if self.process.poll() is None:
            self.send_signal(signal.SIGCONT)
            self.send_signal(signal.SIGTERM)
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                self.send_signal(signal.SIGKILL)
        status = self.process.wait()
        self._reader.join(1.0)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip())
            if line.startswith("{"):
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                self.events.append(event)
                self._fresh.put(event)


class Graph:
    """Processes that live and die together, on a ROS domain of their own and the loopback transport.

    Args:
        domain: ROS_DOMAIN_ID, 0 to 232.
        namespace: Namespace of every node.
    """

    def __init__(self, *, domain: int, namespace: str = "") -> None:
        self.children: dict[str, Child] = {}
        self._namespace = namespace
        self._environment = {**os.environ, **transport.environment(domain=domain)}

    def start(self, name: str, module: str, *arguments: str, parameters: Mapping[str, object] | None = None) -> Child:
        """Start `python -m module`, with ROS parameters.

        Args:
            name: Name of the process in this graph; one that has ended is replaced.
            module: The module.
            arguments: Its own arguments.
            parameters: ROS parameters of its node.
        """
        if name in self.children and self.children[name].process.poll() is None:
            raise StateError(f"{name} must have ended to be started again.")
        if name in self.children:
            self.children.pop(name).end()
        ros = [part for key, value in (parameters or {}).items() for part in ("-p", f"{key}:={_yaml(value)}")]
        if self._namespace:
            ros += ["-r", f"__ns:={self._namespace}"]
        command = [sys.executable, "-m", module, *arguments, "--ros-args", *ros]
        self.children[name] = Child(name, command, environment=self._environment)
        return self.children[name]

    def __getitem__(self, name: str) -> Child:
        """Return a process by name."""
        if name not in self.children:
            raise missing("process", name, self.children)
        return self.children[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> dict[str, int]:
        """Stop every process, the first started last; return their exit statuses."""
        return {name: self.children[name].end() for name in reversed(list(self.children))}


def _yaml(value: object) -> str:
    """Write a parameter as ROS reads it; a float keeps its point."""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, str) else repr(value)
