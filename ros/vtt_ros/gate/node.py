"""The gate as a node: topics in, rules between, the controller's command out."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from vtt_ros.diagnostics import ERROR, OK, WARN, Report, publish_diagnostics, status_message
from vtt_ros.gate.config import GateConfig
from vtt_ros.gate.rules import Command, Gate, Now
from vtt_ros.messages import JUDGED, LATCHED, LATEST, SENSOR, stamp_ns, twist_message, twist_values
from vtt_ros.parameters import checksum, declare
from vtt_ros.running import run

__all__ = ["GateNode", "main"]

_LEVELS = {"armed": OK, "disarmed": WARN, "fault": ERROR}
# An image message begins with the CDR header (4 bytes) and its stamp (8): what follows changes only with the content.
_AFTER_STAMP = 12


class GateNode:
    """Stands between policy and controller.

    Subscribes to `policy/twist_command` or `policy/joint_command`, `safety/permit`, the state of the robot and every
    required image; publishes `command/twist` or `command/joint_velocity` and `safety/state`; serves `safety/arm`,
    `safety/reset`.
    """

    def __init__(self) -> None:
        self.node = rclpy.create_node("safety_gate")
        self.config = declare(self.node, GateConfig)
        self._joints = bool(self.config.joint_names)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        streams = ["wrench", "joint_states" if self._joints else "tool_pose"]
        self.gate = Gate(self.config, streams=streams)
        self._said = ("", "")
        self._subscribe()
        lifespan = Duration(seconds=self.config.command_timeout)
        out = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, lifespan=lifespan)
        if self._joints:
            self._publisher = self.node.create_publisher(Float64MultiArray, "command/joint_velocity", out)
        else:
            self._publisher = self.node.create_publisher(TwistStamped, "command/twist", out)
        self._state = self.node.create_publisher(DiagnosticStatus, "safety/state", LATCHED)
        self.node.create_service(Trigger, "safety/arm", self._arm)
        self.node.create_service(Trigger, "safety/disarm", self._disarm)
        self.node.create_service(Trigger, "safety/reset", self._reset)
        self.node.create_timer(1.0 / self.config.rate, self._tick, clock=self._steady)
        publish_diagnostics(self.node, self._report)
        self._tell()

    def stop(self) -> None:
        """Send the last zero."""
        self.gate.disarm()
        self._send(self.gate.zero)

    def _subscribe(self) -> None:
        node = self.node
        if self._joints:
            self._topic = node.resolve_topic_name("policy/joint_command")
            node.create_subscription(JointTrajectory, "policy/joint_command", self._joint_command, JUDGED)
            node.create_subscription(JointState, "joint_states", self._hear_joints, SENSOR)
        else:
            self._topic = node.resolve_topic_name("policy/twist_command")
            node.create_subscription(TwistStamped, "policy/twist_command", self._twist_command, JUDGED)
            node.create_subscription(PoseStamped, "tool_pose", self._hear_tool, SENSOR)
        node.create_subscription(WrenchStamped, "wrench", self._hear_wrench, SENSOR)
        node.create_subscription(Bool, "safety/permit", self._hear_permit, LATEST)
        for topic in self.config.images:
            # As bytes: a digest tells all that the gate wants to know, and an image need not be unpacked for it.
            node.create_subscription(Image, topic, partial(self._hear_image, topic), SENSOR, raw=True)

    def _now(self) -> Now:
        return Now(self._steady.now().nanoseconds, self.node.get_clock().now().nanoseconds)

    def _twist_command(self, message: TwistStamped) -> None:
        header = message.header
        self._judge(Command(stamp_ns(header.stamp), header.frame_id, twist_values(message.twist)))

    def _joint_command(self, message: JointTrajectory) -> None:
        points = list(message.points)
        velocities = points[0].velocities if len(points) == 1 else ()
        header = message.header
        names = tuple(message.joint_names)
        self._judge(Command(stamp_ns(header.stamp), header.frame_id, tuple(velocities), names))

    def _judge(self, command: Command) -> None:
        was = self.gate.mode
        values = self.gate.judge(command, self._now())
        if values is not None:
            self._send(values)
        elif was == "armed":
            self._send(self.gate.zero)
            self._tell()

    def _tick(self) -> None:
        self.gate.tick(self._now(), publishers=self.node.count_publishers(self._topic))
        if self.gate.mode != "armed":
            self._send(self.gate.zero)
        self._tell()

    def _heard(self) -> None:
        """Stop at once if what was heard closed the gate."""
        if self.gate.mode == "fault" and self._said[0] == "armed":
            self._send(self.gate.zero)
            self._tell()

    def _hear_permit(self, message: Bool) -> None:
        self.gate.hear_permit(message.data, self._now())
        self._heard()

    def _hear_wrench(self, message: WrenchStamped) -> None:
        force, torque = message.wrench.force, message.wrench.torque
        self.gate.hear_wrench((force.x, force.y, force.z), (torque.x, torque.y, torque.z), self._now())
        self._heard()

    def _hear_tool(self, message: PoseStamped) -> None:
        p, q = message.pose.position, message.pose.orientation
        self.gate.hear_tool((p.x, p.y, p.z), (q.w, q.x, q.y, q.z), self._now())
        self._heard()

    def _hear_joints(self, message: JointState) -> None:
        if tuple(message.name) == self.config.joint_names:
            self.gate.hear("joint_states", self._now())

    def _hear_image(self, topic: str, raw: Any) -> None:
        self.gate.hear(topic, self._now(), digest=zlib.crc32(memoryview(raw)[_AFTER_STAMP:]))
        self._heard()

    def _send(self, values: Sequence[float]) -> None:
        if self._joints:
            self._publisher.publish(Float64MultiArray(data=list(values)))
        else:
            self._publisher.publish(twist_message(values, stamp=self.node.get_clock().now().to_msg()))

    def _arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        publishers = self.node.count_publishers(self._topic)
        now = self._now()
        obstacle = self.gate.obstacle(now, publishers=publishers)
        session = self.gate.arm(now, publishers=publishers)
        response.success = bool(session)
        response.message = f"armed, limits {checksum(self.config)}" if session else f"not armed: {obstacle}"
        self.node.get_logger().info(response.message)
        self._tell()
        return response

    def _disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.gate.disarm()
        self._send(self.gate.zero)
        self._tell()
        response.success, response.message = True, self.gate.mode
        return response

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.gate.reset()
        self._tell()
        response.success, response.message = True, self.gate.mode
        return response

    def _tell(self) -> None:
        """Publish the state where it changed."""
        now = (self.gate.mode, self.gate.fault)
        if now == self._said:
            return
        if now[0] == "fault":
            self.node.get_logger().error(f"stopped: {now[1]}")
        self._said = now
        self._state.publish(status_message("safety_gate", self._report()))

    def _report(self) -> Report:
        gate = self.gate
        message = gate.fault or gate.mode
        values = {
            "mode": gate.mode,
            "session": gate.session,
            "passed": gate.passed,
            "refused": gate.refused,
            "limits": checksum(self.config),
        }
        return Report(_LEVELS[gate.mode], message, values)


def main() -> int:
    """Run the safety gate."""
    return run(GateNode)


if __name__ == "__main__":
    raise SystemExit(main())
