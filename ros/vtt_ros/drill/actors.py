"""Processes that a drill plays with: a policy and a sensor that misbehave on a word from stdin; see `operator`."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from rclpy.duration import Duration
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vtt_ros.messages import JUDGED, LATCHED, ImageWriter, time_message, twist_message
from vtt_ros.operator import Actor, say
from vtt_ros.running import run

__all__ = ["PolicyActor", "SensorActor", "main"]

_POLL = 0.002


class PolicyActor(Actor):
    """Sends a small, smooth motion at 20 Hz, and one bad command on a word."""

    _PERIOD = 0.05

    def __init__(self, name: str = "policy") -> None:
        super().__init__(name)
        names = self.node.declare_parameter("joint_names", [""]).value or []
        self._joints = [str(joint) for joint in names if joint]
        self._session = ""
        self._name = f"{name}-{time.monotonic_ns():x}"
        self._phase = 0.0
        if self._joints:
            self._publisher = self.node.create_publisher(JointTrajectory, "policy/joint_command", JUDGED)
        else:
            self._publisher = self.node.create_publisher(TwistStamped, "policy/twist_command", JUDGED)
        self.node.create_subscription(DiagnosticStatus, "safety/state", self._hear, LATCHED)
        self.every(self._PERIOD, self._act)

    def obey(self, word: str) -> None:
        """Send the bad command that `word` names, at once."""
        began = time.monotonic_ns()
        values, age, session, names = self._motion(), 0, self._session, list(self._joints)
        if word == "nan":
            values[0] = math.nan
        elif word == "inf":
            values[0] = math.inf
        elif word == "spike":
            values[0] = 10.0
        elif word == "jump":
            values = [-1.5 * value for value in values]
        elif word == "late":
            age = 300_000_000
        elif word == "future":
            age = -300_000_000
        elif word == "session":
            session = "00000000"
        elif word == "names":
            names = names[::-1]
        elif word == "short":
            values = values[:-1]
        self._send(values, age=age, session=session, names=names)
        say(sent=word, t=began)

    def _hear(self, message: DiagnosticStatus) -> None:
        self._session = next((pair.value for pair in message.values if pair.key == "session"), "")

    def _act(self) -> None:
        self._phase += 2.0 * math.pi * self._PERIOD
        if self._session:
            self._send(self._motion(), session=self._session, names=self._joints)

    def _motion(self) -> list[float]:
        # Never zero, so that a zero at the robot comes from the gate.
        first = 0.02 + 0.005 * math.sin(self._phase)
        return [first] * len(self._joints) if self._joints else [first, 0.0, 0.0, 0.0, 0.0, 0.0]

    def _send(self, values: list[float], *, session: str, names: list[str], age: int = 0) -> None:
        stamp = time_message(self.node.get_clock().now().nanoseconds - age)
        frame = f"tool0:{session}:{self._name}"
        if not self._joints:
            self._publisher.publish(twist_message(values, stamp=stamp, frame=frame))
            return
        point = JointTrajectoryPoint(velocities=values, time_from_start=Duration(seconds=self._PERIOD).to_msg())
        message = JointTrajectory(joint_names=names, points=[point])
        message.header.stamp, message.header.frame_id = stamp, frame
        self._publisher.publish(message)


class SensorActor(Actor):
    """Publishes a noisy tactile image at 60 Hz; the words stall, freeze and go change that."""

    def __init__(self) -> None:
        super().__init__("tactile_left")
        self._writer = ImageWriter(frame="left_gel")
        self._rng = np.random.default_rng(0)
        self._frame = self._rng.integers(0, 256, (240, 320, 3), np.uint8)
        self._mode = "go"
        self._publisher = self.node.create_publisher(Image, "tactile/left/image_raw", QoSProfile(depth=10))
        self.every(1.0 / 60.0, self._publish)

    def obey(self, word: str) -> None:
        """Take up a mode."""
        self._mode = word
        say(sent=word)

    def _publish(self) -> None:
        if self._mode == "stall":
            return
        if self._mode == "go":
            self._frame[:2] = self._rng.integers(0, 256, (2, 320, 3), np.uint8)
        now = self.node.get_clock().now().nanoseconds
        self._publisher.publish(self._writer.write(self._frame, stamp=now))


_ACTORS: dict[str, Callable[[], Actor]] = {
    "policy": PolicyActor,
    "intruder": lambda: PolicyActor("intruder"),
    "sensor": SensorActor,
}


def main() -> int:
    """Run the actor that the first argument names."""
    return run(_ACTORS[sys.argv.pop(1)])


if __name__ == "__main__":
    raise SystemExit(main())
