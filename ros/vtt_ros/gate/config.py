"""What the gate allows; every limit is a read-only parameter of its node."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from vtt.errors import ConfigError
from vtt_ros.parameters import between, described

__all__ = ["SIMULATED", "GateConfig"]

SIMULATED: dict[str, float | int] = {
    "linear_speed": 0.25,
    "angular_speed": 4.0,
    "linear_acceleration": 50.0,
    "angular_acceleration": 500.0,
    "force": 200.0,
    "torque": 50.0,
    "frozen_frames": 1000,
    "image_timeout": 0.3,
    "state_timeout": 0.3,
    "command_timeout": 0.3,
    "max_age": 0.3,
}
"""Limits for a simulated robot: a tool at action 1 on all axes that turns back within a step, which environments allow,
and gels whose picture repeats while nothing touches them, because a simulated camera has no noise."""


@dataclass(frozen=True)
class GateConfig:
    """Limits, time-outs and what must be alive."""

    command: str = described("twist", "What the policy sends and the controller takes: twist or joint_velocity.")
    command_timeout: float = between(0.12, 0.02, 1.0, "Silence of the policy that is a fault, s.")
    first_command_timeout: float = between(5.0, 0.1, 60.0, "Time from arming to the policy's first command, s.")
    max_age: float = between(0.1, 0.005, 1.0, "Age of a command's stamp at its arrival that is a fault, s.")
    max_ahead: float = between(0.02, 0.0, 0.5, "How far a command's stamp may lie in the future, s.")
    linear_speed: float = between(0.05, 0.0, 2.0, "Largest commanded speed of the tool, m/s.")
    angular_speed: float = between(0.5, 0.0, 6.0, "Largest commanded angular speed of the tool, rad/s.")
    linear_acceleration: float = between(2.0, 0.0, 100.0, "Largest change of the commanded velocity, m/s^2.")
    angular_acceleration: float = between(20.0, 0.0, 1000.0, "Largest change of the angular velocity, rad/s^2.")
    joint_names: tuple[str, ...] = described((), "Joints of joint_velocity, in the controller's order.")
    joint_speed: tuple[float, ...] = described((), "Largest speed of each joint, rad/s.")
    joint_acceleration: tuple[float, ...] = described((), "Largest acceleration of each joint, rad/s^2.")
    images: tuple[str, ...] = described((), "Image topics that must be alive and changing.")
    image_timeout: float = between(0.1, 0.02, 2.0, "Silence of an image topic that is a fault, s.")
    frozen_frames: int = between(15, 2, 1000, "Equal frames in a row that are a fault: a sensor that hangs.")
    state_timeout: float = between(0.1, 0.01, 2.0, "Silence of tool_pose, joint_states or wrench that is a fault, s.")
    force: float = between(30.0, 0.0, 1000.0, "Largest force measured at the wrist, N.")
    torque: float = between(5.0, 0.0, 1000.0, "Largest torque measured at the wrist, N m.")
    workspace_low: tuple[float, ...] = described((), "Lower corner of the tool's workspace in the base frame, m.")
    workspace_high: tuple[float, ...] = described((), "Upper corner of the tool's workspace in the base frame, m.")
    lookahead: float = between(0.1, 0.0, 1.0, "How long a commanded motion must stay in the workspace, s.")
    permit_timeout: float = between(0.3, 0.05, 5.0, "Silence of the permit that is a fault, s.")
    clock_jump: float = between(0.05, 0.005, 1.0, "Disagreement of the ROS clock with the steady one, s.")
    rate: float = between(100.0, 20.0, 1000.0, "How often time-outs are looked at and zeros are sent, Hz.")

    def __post_init__(self) -> None:
        """Refuse what does not belong together."""
        if self.command not in ("twist", "joint_velocity"):
            raise ConfigError(f"command must be twist or joint_velocity, got {self.command}.")
        if self.command == "joint_velocity" and not self.joint_names:
            raise ConfigError("joint_names must name the controller's joints, got none.")
        for name in ("joint_speed", "joint_acceleration"):
            if len(getattr(self, name)) != len(self.joint_names):
                raise ConfigError(f"{name} must hold one limit per joint ({len(self.joint_names)}).")
        if self.command == "twist" and self.joint_names:
            raise ConfigError("joint_names must be empty where command is twist.")
        for name in ("workspace_low", "workspace_high"):
            if len(getattr(self, name)) not in (0, 3):
                raise ConfigError(f"{name} must be x, y, z or empty, got {len(getattr(self, name))} numbers.")
        if len(self.workspace_low) != len(self.workspace_high):
            raise ConfigError("workspace_low and workspace_high must be given together.")
        if any(low >= high for low, high in zip(self.workspace_low, self.workspace_high, strict=True)):
            raise ConfigError("workspace_low must lie below workspace_high on every axis.")

    def to_dict(self) -> dict[str, Any]:
        """List all settings by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
