"""Runs the faults against real processes and measures at the robot."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vtt.errors import StateError
from vtt_ros.drill.faults import COMMAND_TIMEOUT, IMAGE_TIMEOUT, PERMIT_TIMEOUT, ROBOT_TIMEOUT, Fault
from vtt_ros.graph import Graph

__all__ = ["Drill", "Outcome", "Storm", "cpu_hogs", "table"]

_IMAGE = "tactile/left/image_raw"
_JOINTS = ("joint_1", "joint_2", "joint_3")
_STILL = 1e-3  # m/s or rad/s: below it the robot stands
_OBSERVE = 0.8
_DEADLINE = 15.0


@dataclass(frozen=True)
class Outcome:
    """What one fault did.

    Attributes:
        fault: Its name.
        to_zero: Time from the fault to the first zero at the robot, or to its own watchdog, s; infinite if none came.
        to_standstill: Time from that zero until the robot stood, s.
        named: Whether the gate named the right fault.
        after_zero: Commands other than zero that came after the first zero.
        non_finite: Commands with a NaN or an infinity that reached the robot.
        said: What the gate said.
    """

    fault: str
    to_zero: float
    to_standstill: float
    named: bool
    after_zero: int
    non_finite: int
    said: str


@dataclass(frozen=True)
class Storm:
    """What killing and stopping unrelated processes did to the commands.

    Attributes:
        events: Processes killed or stopped.
        longest_gap: Longest time between two commands at the robot, s.
        gaps: Gaps of more than 150 ms.
        fault: What the gate said if it stopped; empty if it did not.
    """

    events: int
    longest_gap: float
    gaps: int
    fault: str


class Drill:
    """A graph of gate, robot, sensor, policy and operator, to be broken again and again.

    Args:
        folder: Where the robot's log goes.
        domain: ROS_DOMAIN_ID.
        joints: A robot that takes joint velocities instead of twists.
    """

    def __init__(self, folder: Path, *, domain: int, joints: bool = False) -> None:
        self._log = folder / "robot.jsonl"
        self._log.touch()
        self._read_to = 0
        self._joints = joints
        self.graph = Graph(domain=domain)
        names = {"joint_names": _JOINTS} if joints else {}
        limits: dict[str, object] = {"linear_speed": 0.05}
        if joints:
            limits = {"command": "joint_velocity", "joint_speed": [0.5] * 3, "joint_acceleration": [1.0] * 3, **names}
        self._start: dict[str, Callable[[], Any]] = {
            "robot": lambda: self.graph.start(
                "robot",
                "vtt_ros.robot_model",
                parameters={"log": str(self._log), "command_timeout": ROBOT_TIMEOUT, **names},
            ),
            "gate": lambda: self.graph.start(
                "gate",
                "vtt_ros.gate.node",
                parameters={
                    "command_timeout": COMMAND_TIMEOUT,
                    "image_timeout": IMAGE_TIMEOUT,
                    "permit_timeout": PERMIT_TIMEOUT,
                    "linear_acceleration": 0.5,
                    "images": [_IMAGE],
                    **limits,
                },
            ),
            "sensor": lambda: self.graph.start("sensor", "vtt_ros.drill.actors", "sensor"),
            "policy": lambda: self.graph.start("policy", "vtt_ros.drill.actors", "policy", parameters=names),
            "operator": lambda: self.graph.start("operator", "vtt_ros.operator"),
        }

    def __enter__(self) -> Drill:
        for start in self._start.values():
            start()
        return self

    def __exit__(self, *error: object) -> None:
        self.graph.end()

    def break_by(self, fault: Fault) -> Outcome:
        """Arm, let the robot move, break something, watch, and repair it."""
        self.arm()
        operator = self.graph["operator"]
        operator.forget()
        self._entries()
        began = self._inject(fault)
        time.sleep(_OBSERVE + fault.limit)
        entries = [entry for entry in self._entries() if entry["t"] >= began]
        outcome = _judge(fault, entries, began, self._faults(began))
        self._repair(fault)
        return outcome

    def arm(self) -> None:
        """Reset and arm until the gate agrees, then wait until the robot moves.

        Raises:
            StateError: If it never agrees, with what it says is in the way.
        """
        operator = self.graph["operator"]
        deadline = time.monotonic() + _DEADLINE
        answer: dict[str, Any] = {"text": "nothing"}
        while time.monotonic() < deadline:
            answer = operator.ask("reset", timeout=_DEADLINE)
            answer = operator.ask("arm", timeout=_DEADLINE)
            if answer["ok"] and self._moves():
                return
        raise StateError(f"The gate must arm within {_DEADLINE} s, it says: {answer['text']}.")

    def storm(self, events: int, *, peers: int = 2) -> Storm:
        """Kill and stop processes that have nothing to do with the robot, while it is driven.

        Args:
            events: How many in all, kills and stops in turn.
            peers: Processes that are broken in turn.
        """
        names = [f"peer_{index}" for index in range(peers)]
        for name in names:
            self._start_peer(name)
        self.arm()
        self._entries()
        began = time.monotonic_ns()
        for event in range(events):
            peer = self.graph[names[event % peers]]
            if event // peers % 2:
                peer.send_signal(signal.SIGSTOP)
                time.sleep(0.25)
                peer.send_signal(signal.SIGCONT)
            else:
                peer.send_signal(signal.SIGKILL)
                time.sleep(0.25)
                self._start_peer(names[event % peers])
            time.sleep(0.25)
        times = [entry["t"] for entry in self._entries() if "command" in entry and entry["t"] >= began]
        gaps = np.diff(times) / 1e9
        said = self._faults(began)
        for name in names:
            self.graph[name].end()
        return Storm(events, float(gaps.max()), int((gaps > 0.15).sum()), said)

    def _faults(self, began: int) -> str:
        """Return the first fault that the gate told the operator since then."""
        events = self.graph["operator"].events
        return next((e["text"] for e in events if e["t"] >= began and e.get("state") == "fault"), "")

    def _start_peer(self, name: str) -> None:
        # In a namespace of its own: nobody listens to it.
        self.graph.start(name, "vtt_ros.drill.actors", "sensor", "--ros-args", "-r", f"__ns:=/{name}")

    def _moves(self) -> bool:
        """Tell whether the robot gets commands other than zero, steadily for a while."""
        self._entries()
        time.sleep(0.4)
        commands = [entry["command"] for entry in self._entries() if "command" in entry]
        return len(commands) >= 4 and all(any(command) for command in commands[-4:])

    def _inject(self, fault: Fault) -> int:
        """Break something; return when, ns."""
        if fault.actor == "intruder":
            intruder = self.graph.start("intruder", "vtt_ros.drill.actors", "intruder")
            return intruder.wait_for(lambda event: "ready" in event, timeout=_DEADLINE, what="ready")["t"]
        child = self.graph[fault.actor]
        if fault.signal:
            began = time.monotonic_ns()
            child.send_signal(signal.Signals[fault.signal])
            return began
        child.forget()
        child.tell(fault.word)
        return child.wait_for(lambda event: event.get("sent") == fault.word, timeout=2.0, what=f"{fault.word}")["t"]

    def _repair(self, fault: Fault) -> None:
        """Bring back what was broken."""
        child = self.graph[fault.actor]
        if fault.actor == "intruder" or fault.signal == "SIGTERM":
            child.end()
        elif fault.signal == "SIGSTOP":
            child.send_signal(signal.SIGCONT)
        elif fault.actor == "sensor" and fault.word:
            child.tell("go")
        elif fault.actor == "operator":
            child.tell("permit")
        if fault.signal in ("SIGKILL", "SIGTERM"):
            self._start[fault.actor]()

    def _entries(self) -> list[dict[str, Any]]:
        """Read what the robot has logged since the last call; a line that is still being written waits."""
        with self._log.open("rb") as file:
            file.seek(self._read_to)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._read_to += whole
        return [json.loads(line) for line in text[:whole].splitlines()]


def _judge(fault: Fault, entries: Sequence[dict[str, Any]], began: int, said: str) -> Outcome:
    """Read the robot's log after a fault."""
    commands = [(entry["t"], entry["command"]) for entry in entries if "command" in entry]
    stops = [t for t, command in commands if not any(command)]
    stops += [entry["t"] for entry in entries if entry.get("watchdog")]
    zero = min(stops, default=None)
    moving = [entry["t"] for entry in entries if entry.get("speed", 0.0) >= _STILL]
    return Outcome(
        fault.name,
        float("inf") if zero is None else (zero - began) / 1e9,
        float("inf") if zero is None else (max(moving, default=zero) - zero) / 1e9,
        fault.says in said if fault.says else not said,
        0 if zero is None else sum(t > zero and any(command) for t, command in commands),
        sum(any(isinstance(value, str) for value in command) for _, command in commands),
        said,
    )


@contextmanager
def cpu_hogs(count: int) -> Iterator[None]:
    """Keep `count` cores busy."""
    hogs = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def table(outcomes: Sequence[Outcome], faults: Sequence[Fault]) -> str:
    """Lay out outcomes by fault: time to zero (median, largest), limit, standstill, and what went wrong."""
    lines = [f"{'fault':<28} {'n':>3}  {'to zero, ms':>13}  {'limit':>5}  {'still':>5}  named  after zero  non-finite"]
    for fault in faults:
        rows = [outcome for outcome in outcomes if outcome.fault == fault.name]
        if not rows:
            continue
        times = [row.to_zero * 1e3 for row in rows]
        named, still = sum(row.named for row in rows), max(row.to_standstill for row in rows)
        lines.append(
            f"{fault.name:<28} {len(rows):>3}  {np.median(times):>5.1f} {max(times):>7.1f}  {fault.limit * 1e3:>5.0f}  "
            f"{still * 1e3:>5.0f}  {named:>2}/{len(rows):<2}  "
            f"{sum(row.after_zero for row in rows):>10}  {sum(row.non_finite for row in rows):>10}"
        )
    return "\n".join(lines)
