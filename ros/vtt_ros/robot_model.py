"""A robot that knows only its commands: integrates them, reports its state, and stops by itself when they stop.

It stands for an arm whose controller enforces its own command time-out, for tests of whatever commands it. Each command
that arrives is written to a log as it came, so that a test sees what the robot saw.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from vtt_ros.messages import LATEST, twist_values
from vtt_ros.parameters import between, declare, described
from vtt_ros.running import run

__all__ = ["RobotModel", "RobotModelConfig", "main"]


@dataclass(frozen=True)
class RobotModelConfig:
    """How the robot answers."""

    rate: float = between(100.0, 10.0, 1000.0, "How often the state is published, Hz.")
    command_timeout: float = between(0.15, 0.01, 2.0, "Silence after which the robot stops by itself, s.")
    time_constant: float = between(0.05, 0.0, 2.0, "Time constant of the velocity's first-order answer, s.")
    joint_names: tuple[str, ...] = described((), "Joints; none for a robot that takes twists.")
    log: str = described("", "File for one JSON line per command; none if empty.")


class RobotModel:
    """Integrates `command/twist`, or `command/joint_velocity` if it has joints."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("robot_model")
        self.config = declare(self.node, RobotModelConfig)
        self._size = len(self.config.joint_names) or 6
        self._commanded = [0.0] * self._size
        self._velocity = [0.0] * self._size
        self._position = [0.0] * self._size
        self._heard = 0
        self._stopped = True
        self._log: IO[str] | None = None
        if self.config.log:
            self._log = Path(self.config.log).open("a", buffering=1)  # noqa: SIM115 - open as long as the node
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        node, state = self.node, QoSProfile(depth=10)
        if self.config.joint_names:
            node.create_subscription(Float64MultiArray, "command/joint_velocity", self._take_joints, LATEST)
            self._joint_state = node.create_publisher(JointState, "joint_states", state)
        else:
            node.create_subscription(TwistStamped, "command/twist", self._take_twist, LATEST)
            self._tool_pose = node.create_publisher(PoseStamped, "tool_pose", state)
        self._wrench = node.create_publisher(WrenchStamped, "wrench", state)
        node.create_timer(1.0 / self.config.rate, self._step, clock=self._steady)

    def stop(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    def _take_twist(self, message: TwistStamped) -> None:
        self._take(twist_values(message.twist))

    def _take_joints(self, message: Float64MultiArray) -> None:
        self._take(message.data)

    def _take(self, values: Sequence[float]) -> None:
        """Obey any finite command of the right size; log every one."""
        now = time.monotonic_ns()
        self._write({"t": now, "command": [v if math.isfinite(v) else repr(v) for v in values]})
        if len(values) == self._size and all(map(math.isfinite, values)):
            self._commanded, self._heard = list(values), now
            self._stopped = False

    def _step(self) -> None:
        now = time.monotonic_ns()
        if not self._stopped and now - self._heard > self.config.command_timeout * 1e9:
            self._stopped = True
            self._commanded = [0.0] * self._size
            self._write({"t": now, "watchdog": True})
        dt = 1.0 / self.config.rate
        share = 1.0 if self.config.time_constant <= 0 else 1.0 - math.exp(-dt / self.config.time_constant)
        self._velocity = [v + share * (c - v) for v, c in zip(self._velocity, self._commanded, strict=True)]
        self._position = [p + dt * v for p, v in zip(self._position, self._velocity, strict=True)]
        self._write({"t": now, "speed": math.hypot(*self._velocity)})
        self._publish()

    def _publish(self) -> None:
        stamp = self.node.get_clock().now().to_msg()
        wrench = WrenchStamped()
        wrench.header.stamp, wrench.header.frame_id = stamp, "tool0"
        self._wrench.publish(wrench)
        if self.config.joint_names:
            state = JointState(name=list(self.config.joint_names), position=self._position, velocity=self._velocity)
            state.header.stamp = stamp
            self._joint_state.publish(state)
            return
        pose = PoseStamped()
        pose.header.stamp, pose.header.frame_id = stamp, "base_link"
        # The tool is taken not to turn: a pose for the gate's workspace, no kinematics.
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = self._position[:3]
        pose.pose.orientation.w = 1.0
        self._tool_pose.publish(pose)

    def _write(self, entry: dict[str, object]) -> None:
        if self._log is not None:
            self._log.write(json.dumps(entry) + "\n")


def main() -> int:
    """Run the robot model."""
    return run(RobotModel)


if __name__ == "__main__":
    raise SystemExit(main())
