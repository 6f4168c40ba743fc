"""Any vtt environment behind the topics of a real arm, in real time."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from numpy.typing import NDArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from vtt.cli import parse_key_values
from vtt.errors import ConfigError
from vtt.streams import StreamSpec
from vtt_ros.diagnostics import OK, WARN, Report, publish_diagnostics, status_message
from vtt_ros.messages import LATCHED, LATEST, ImageWriter, time_message, twist_values
from vtt_ros.observations import topic_of, vector_message
from vtt_ros.parameters import between, declare, described
from vtt_ros.running import run

__all__ = ["SimRobot", "SimRobotConfig", "main"]

_STATE = QoSProfile(depth=10)


@dataclass(frozen=True)
class SimRobotConfig:
    """Which environment, and how it answers."""

    env: str = described("vtt_envs:vtt/PegInsertion-v0", "Gymnasium id with its module.")
    env_args: tuple[str, ...] = described((), "Further options of the environment, each key=value.")
    observation: str = described("tactile", "Observation word or keys that are published.")
    first_seed: int = between(1_000_000_000, 0, 2_000_000_000, "Seed of the first episode; they count up.")
    command_timeout: float = between(0.15, 0.01, 2.0, "Silence after which the robot holds still, s.")


class SimRobot:
    """Steps one environment at its control rate with the newest command.

    An episode begins with the first command that moves, so that a policy may take its time to start. Publishes the
    observations (see `observations.topic_of`), `tool_pose`, `wrench` and the outcome on `sim/episode`; serves
    `sim/reset`.
    """

    def __init__(self) -> None:
        self.node = rclpy.create_node("sim_robot")
        self.config = declare(self.node, SimRobotConfig)
        words = f"{self.config.observation},proprioception,wrench"
        options = parse_key_values(self.config.env_args)
        self.env = gym.make(self.config.env, observation=words, **options)
        core: Any = self.env.unwrapped.core  # type: ignore[attr-defined]
        self.specs: Mapping[str, StreamSpec] = core.stream_specs()
        self._dt = float(core.control_dt)
        robot = core.task.robot
        if self.env.action_space.shape != (6,):
            raise ConfigError(f"{self.config.env} must take a twist of 6 numbers, got {self.env.action_space}.")
        step = (*(robot.translation_step,) * 3, *(robot.rotation_step,) * 3)
        self.per_second = np.asarray(step, np.float64) / self._dt
        self._command, self._heard = np.zeros(6), 0
        self._seed, self._steps, self._running, self._over = self.config.first_seed - 1, 0, False, True
        self._late = 0
        self._seen: Mapping[str, NDArray] = {}
        self._advertise()
        node = self.node
        node.create_subscription(TwistStamped, "command/twist", self._take, LATEST)
        node.create_service(Trigger, "sim/reset", self._reset)
        node.create_timer(self._dt, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        publish_diagnostics(node, self._report)
        self._begin()

    def stop(self) -> None:
        """Close the environment."""
        self.env.close()

    def _advertise(self) -> None:
        node = self.node
        self._images: dict[str, tuple[Any, ImageWriter]] = {}
        self._vectors: dict[str, Any] = {}
        for key, spec in self.specs.items():
            if spec.kind == "vector":
                self._vectors[key] = node.create_publisher(JointState, topic_of(key, spec), _STATE)
            else:
                frame = f"{key.removeprefix('tactile_')}_gel" if spec.kind == "tactile_image" else key
                self._images[key] = (
                    node.create_publisher(Image, topic_of(key, spec), _STATE),
                    ImageWriter(frame=frame),
                )
        self._pose = node.create_publisher(PoseStamped, "tool_pose", _STATE)
        self._wrench = node.create_publisher(WrenchStamped, "wrench", _STATE)
        self._episode = node.create_publisher(DiagnosticStatus, "sim/episode", LATCHED)

    def _take(self, message: TwistStamped) -> None:
        self._command, self._heard = np.asarray(twist_values(message.twist)), time.monotonic_ns()

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._begin()
        response.success, response.message = True, str(self._seed)
        return response

    def _begin(self) -> None:
        """Begin the next episode, which waits for its first command."""
        self._seed += 1
        self._seen, _ = self.env.reset(seed=self._seed)
        self._steps, self._running, self._over = 0, False, False
        self._command = np.zeros(6)
        self._publish()

    def _tick(self) -> None:
        silent = time.monotonic_ns() - self._heard > self.config.command_timeout * 1e9
        command = np.zeros(6) if silent else self._command
        self._running = self._running or bool(command.any())
        if self._running and not self._over:
            began = time.monotonic()
            action = np.clip(command / self.per_second, -1.0, 1.0).astype(np.float32)
            self._seen, _, terminated, truncated, info = self.env.step(action)
            self._steps += 1
            self._late += time.monotonic() - began > self._dt
            if terminated or truncated:
                self._over = True
                self._tell(bool(info["success"]))
        self._publish()

    def _tell(self, success: bool) -> None:
        values = {"seed": self._seed, "success": json.dumps(success), "steps": self._steps, "late": self._late}
        self._episode.publish(status_message("sim_robot", Report(OK, "over", values)))

    def _publish(self) -> None:
        stamp = self.node.get_clock().now().nanoseconds
        for key, (publisher, writer) in self._images.items():
            publisher.publish(writer.write(self._seen[key], stamp=stamp))
        for key, publisher in self._vectors.items():
            publisher.publish(vector_message(self._seen[key], self.specs[key], stamp=stamp))
        named = dict(zip(self.specs["proprioception"].names, self._seen["proprioception"], strict=True))
        pose = PoseStamped()
        pose.header.stamp, pose.header.frame_id = time_message(stamp), "base_link"
        p, q = pose.pose.position, pose.pose.orientation
        p.x, p.y, p.z = (float(named[f"tool_position_{axis}"]) for axis in "xyz")
        size = float(np.linalg.norm([named[f"tool_quat_{axis}"] for axis in "wxyz"]))
        q.w, q.x, q.y, q.z = (float(named[f"tool_quat_{axis}"]) / size for axis in "wxyz")
        self._pose.publish(pose)
        wrench = WrenchStamped()
        wrench.header.stamp, wrench.header.frame_id = time_message(stamp), "tool0"
        f, t = wrench.wrench.force, wrench.wrench.torque
        f.x, f.y, f.z, t.x, t.y, t.z = map(float, self._seen["wrench"])
        self._wrench.publish(wrench)

    def _report(self) -> Report:
        values = {"seed": self._seed, "steps": self._steps, "late_steps": self._late, "env": self.config.env}
        return Report(WARN if self._late else OK, "over" if self._over else "running", values)


def main() -> int:
    """Run a simulated robot."""
    return run(SimRobot)


if __name__ == "__main__":
    raise SystemExit(main())
