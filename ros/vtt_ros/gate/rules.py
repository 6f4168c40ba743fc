"""Decides which command passes. Pure Python: no ROS, no clock of its own, so that every rule is tested directly.

Times are integer nanoseconds. `Now` holds two clocks: the steady one, for silence, and ROS's, for stamps.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vtt_ros.gate.config import GateConfig

__all__ = ["Command", "Gate", "Mode", "Now", "parse_source"]

Mode = str
"""One of disarmed, armed, fault."""

_NS = 1_000_000_000


class Now(NamedTuple):
    """One instant on both clocks, ns."""

    steady: int
    ros: int


@dataclass(frozen=True)
class Command:
    """What a policy asks for.

    Attributes:
        stamp: When the observation behind it was taken, ns of the ROS clock.
        frame: "<tool frame>:<session>:<publisher>"; the session is the gate's, the publisher draws its own name.
        values: A twist (m/s, rad/s; tool frame) of 6 numbers, or one velocity per joint, rad/s.
        names: The joints that `values` belong to; empty for a twist.
    """

    stamp: int
    frame: str
    values: tuple[float, ...]
    names: tuple[str, ...] = ()


def parse_source(frame: str) -> tuple[str, str]:
    """Split a command's frame into session and publisher; empty where it holds none.

    Example:
        >>> parse_source("tool0:3f2a:left_arm_policy"), parse_source("tool0")
        (('3f2a', 'left_arm_policy'), ('', ''))
    """
    parts = frame.split(":")
    return (parts[1], parts[2]) if len(parts) == 3 else ("", "")


@dataclass
class _Stream:
    """When a required stream was last heard, and for how long it has not changed."""

    timeout: int
    heard: int | None = None
    digest: int | None = None
    equal: int = 0


@dataclass
class _Tool:
    """Where the tool is in the base frame: position, m, and orientation as a quaternion wxyz."""

    position: tuple[float, float, float]
    quat_wxyz: tuple[float, float, float, float]


@dataclass
class _Session:
    """One arming: who speaks in it, and what passed last."""

    name: str
    began: int
    publisher: str = ""
    stamp: int = 0
    heard: int | None = None
    values: tuple[float, ...] = field(default=())


class Gate:
    """Passes a command only if everything is well; else latches a fault until a person resets it.

    It begins disarmed. `arm` opens it if every required stream is alive; a fault closes it; `reset` leads from a fault
    to disarmed and never further.

    Args:
        config: Limits and time-outs.
        streams: Names of the state topics that must be alive besides `config.images`, such as tool_pose.
    """

    def __init__(self, config: GateConfig, *, streams: Sequence[str] = ()) -> None:
        self.config = config
        self.mode: Mode = "disarmed"
        self.fault = ""
        self.passed = 0
        self.refused = 0
        self._streams = {name: _Stream(_ns(config.image_timeout)) for name in config.images}
        self._streams.update({name: _Stream(_ns(config.state_timeout)) for name in streams})
        self._permit: int | None = None
        self._tool: _Tool | None = None
        self._session: _Session | None = None
        self._last: Now | None = None
        self._standing: dict[str, str] = {}
        self._size = len(config.joint_names) or 6

    @property
    def session(self) -> str:
        """Name of the arming in force; empty unless armed."""
        return self._session.name if self._session is not None and self.mode == "armed" else ""

    @property
    def zero(self) -> tuple[float, ...]:
        """The command that stops."""
        return (0.0,) * self._size

    def hear_permit(self, permitted: bool, now: Now) -> None:
        """Take the operator's heartbeat: True goes on, False is an emergency stop."""
        self._permit = now.steady if permitted else None
        if not permitted:
            self._latch("the permit was withdrawn")

    def hear(self, name: str, now: Now, *, digest: int | None = None) -> None:
        """Take note that a required stream is alive.

        Args:
            name: The stream.
            now: When.
            digest: A number that changes with the content; equal ones in a row tell a frozen sensor.
        """
        stream = self._streams.get(name)
        if stream is None:
            return
        stream.heard = now.steady
        if digest is None:
            return
        stream.equal = stream.equal + 1 if digest == stream.digest else 1
        stream.digest = digest
        frozen = stream.equal >= self.config.frozen_frames
        self._find(name, f"{name} is frozen: {stream.equal} equal frames" if frozen else "")

    def hear_wrench(self, force: Sequence[float], torque: Sequence[float], now: Now) -> None:
        """Take the measured wrench, N and N m."""
        self.hear("wrench", now)
        size, turning = math.hypot(*force), math.hypot(*torque)
        # Written so that a NaN is a fault too.
        allowed = size <= self.config.force and turning <= self.config.torque
        limit = f"{self.config.force} N, {self.config.torque} N m"
        self._find("wrench", "" if allowed else f"the wrench of {size:.1f} N, {turning:.2f} N m is above {limit}")

    def hear_tool(self, position: Sequence[float], quat_wxyz: Sequence[float], now: Now) -> None:
        """Take the tool's pose in the base frame, m; a pose outside the workspace is a fault."""
        self.hear("tool_pose", now)
        if not all(map(math.isfinite, position)) or not abs(math.hypot(*quat_wxyz) - 1.0) < 1e-3:
            self._find("tool_pose", "tool_pose is no pose")
            return
        x, y, z = position
        self._tool = _Tool((x, y, z), (quat_wxyz[0], quat_wxyz[1], quat_wxyz[2], quat_wxyz[3]))
        inside = self._inside(position)
        self._find("tool_pose", "" if inside else f"the tool is outside the workspace at {_vector(position)} m")

    def obstacle(self, now: Now, *, publishers: int) -> str:
        """Say what keeps the gate from being armed; empty if nothing does."""
        if self.mode == "fault":
            return f"a fault is latched ({self.fault}); reset first"
        if self._silent(self._permit, _ns(self.config.permit_timeout), now):
            return "no permit is heard"
        for name, stream in self._streams.items():
            if self._silent(stream.heard, stream.timeout, now):
                return f"{name} is silent"
        for reason in self._standing.values():
            return reason
        if publishers != 1:
            return f"one policy must publish commands, {publishers} do"
        return ""

    def arm(self, now: Now, *, publishers: int) -> str:
        """Open the gate for one session.

        Args:
            now: When.
            publishers: How many nodes publish commands.

        Returns:
            The session's name, which every command must carry; empty if something is in the way, see `obstacle`.
        """
        if self.obstacle(now, publishers=publishers):
            return ""
        self.mode = "armed"
        self._session = _Session(secrets.token_hex(4), now.steady, values=self.zero)
        self._last = now
        return self._session.name

    def disarm(self) -> None:
        """Close the gate without a fault."""
        if self.mode == "armed":
            self.mode, self._session = "disarmed", None

    def reset(self) -> None:
        """Leave a latched fault; the gate is then disarmed."""
        if self.mode == "fault":
            self.mode, self.fault = "disarmed", ""

    def judge(self, command: Command, now: Now) -> tuple[float, ...] | None:
        """Let a command pass, or not.

        Returns:
            The values to send; None if nothing may be sent, because the gate is closed or has just closed.
        """
        session = self._session
        if self.mode != "armed" or session is None:
            self.refused += 1
            return None
        wrong = self._wrong(command, session, now)
        if wrong:
            self.refused += 1
            self._latch(wrong)
            return None
        session.publisher = session.publisher or parse_source(command.frame)[1]
        session.stamp, session.heard, session.values = command.stamp, now.steady, command.values
        self.passed += 1
        return command.values

    def tick(self, now: Now, *, publishers: int = 1) -> None:
        """Look for silence, for a clock that jumped, and for a second publisher; call it at `config.rate`."""
        session = self._session
        if self.mode != "armed" or session is None:
            return
        # Between two ticks, so that a simulation may run slower than the world.
        last, self._last = self._last or now, now
        jump = (now.ros - last.ros) - (now.steady - last.steady)
        if abs(jump) > _ns(self.config.clock_jump):
            self._latch(f"the clock jumped by {jump / _NS:.3f} s")
        elif publishers > 1:
            self._latch(f"a second publisher of commands: {publishers} publish")
        elif session.heard is None:
            if now.steady - session.began > _ns(self.config.first_command_timeout):
                self._latch("the policy sent no first command")
        elif self._silent(session.heard, _ns(self.config.command_timeout), now):
            self._latch("the policy is silent")
        if self._silent(self._permit, _ns(self.config.permit_timeout), now):
            self._latch("the permit is silent")
        for name, stream in self._streams.items():
            if self._silent(stream.heard, stream.timeout, now):
                self._latch(f"{name} is silent")

    def _wrong(self, command: Command, session: _Session, now: Now) -> str:
        """Say what is wrong with a command; empty if nothing is."""
        config = self.config
        source, publisher = parse_source(command.frame)
        if source != session.name or not publisher:
            return f"a command of another session: frame '{command.frame[:64]}'"
        if session.publisher and publisher != session.publisher:
            return f"a second publisher of commands: {publisher[:32]} besides {session.publisher[:32]}"
        if command.names != config.joint_names:
            return f"wrong joint names: {', '.join(command.names)[:64] or 'none'}"
        if len(command.values) != self._size:
            return f"a command of {len(command.values)} numbers, {self._size} expected"
        if not all(map(math.isfinite, command.values)):
            return "a command that is not finite"
        age = now.ros - command.stamp
        if age > _ns(config.max_age):
            return f"a stale command: {age / 1e6:.0f} ms old"
        if -age > _ns(config.max_ahead):
            return f"a command from the future: {-age / 1e6:.0f} ms ahead"
        if command.stamp <= session.stamp:
            return "a repeated or older stamp"
        return self._beyond_limits(command, session)

    def _beyond_limits(self, command: Command, session: _Session) -> str:
        """Say which limit of speed, acceleration or workspace a finite command of the right size breaks."""
        config = self.config
        # The first command starts from standstill; later ones may change by what fits between their stamps.
        period = _ns(config.command_timeout) if not session.stamp else command.stamp - session.stamp
        seconds = min(period, _ns(config.command_timeout)) / _NS
        change = [new - old for new, old in zip(command.values, session.values, strict=True)]
        if config.joint_names:
            limits = zip(config.joint_names, config.joint_speed, config.joint_acceleration, strict=True)
            for (name, speed, acceleration), value, step in zip(limits, command.values, change, strict=True):
                if abs(value) > speed:
                    return f"{name} at {value:.3f} rad/s is above {speed} rad/s"
                if abs(step) > acceleration * seconds:
                    return f"{name} jumps by {step:.3f} rad/s within {seconds * 1e3:.0f} ms"
            return ""
        parts = (
            ("linear", command.values[:3], change[:3], config.linear_speed, config.linear_acceleration, "m/s"),
            ("angular", command.values[3:], change[3:], config.angular_speed, config.angular_acceleration, "rad/s"),
        )
        for name, value, step, speed, acceleration, unit in parts:
            if math.hypot(*value) > speed:
                return f"{name} speed of {math.hypot(*value):.3f} {unit} is above {speed} {unit}"
            if math.hypot(*step) > acceleration * seconds:
                return f"{name} velocity jumps by {math.hypot(*step):.3f} {unit} within {seconds * 1e3:.0f} ms"
        if config.workspace_low and self._tool is not None:
            motion = _rotate(self._tool.quat_wxyz, command.values[:3])
            there = [p + v * config.lookahead for p, v in zip(self._tool.position, motion, strict=True)]
            if not self._inside(there):
                return f"the motion leads out of the workspace, to {_vector(there)} m"
        return ""

    def _find(self, name: str, wrong: str) -> None:
        """Keep what is wrong with a stream for as long as it is; it closes an armed gate and keeps it from arming."""
        if wrong:
            self._standing[name] = wrong
            self._latch(wrong)
        else:
            self._standing.pop(name, None)

    def _inside(self, position: Sequence[float]) -> bool:
        """Tell whether a position is in the workspace; without one, everything is."""
        bounds = zip(self.config.workspace_low, position, self.config.workspace_high, strict=False)
        return all(low <= value <= high for low, value, high in bounds)

    def _latch(self, fault: str) -> None:
        """Close an armed gate; the first fault is the one that is told."""
        if self.mode == "armed":
            self.mode, self.fault, self._session = "fault", fault, None

    @staticmethod
    def _silent(heard: int | None, timeout: int, now: Now) -> bool:
        return heard is None or now.steady - heard > timeout


def _ns(seconds: float) -> int:
    return round(seconds * _NS)


def _vector(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _rotate(quat_wxyz: tuple[float, float, float, float], vector: Sequence[float]) -> tuple[float, float, float]:
    """Turn a vector by a unit quaternion: v + 2 w (q x v) + 2 q x (q x v)."""
    w, *q = quat_wxyz
    t = [2.0 * value for value in _cross(q, vector)]
    a, b = [w * value for value in t], _cross(q, t)
    return (vector[0] + a[0] + b[0], vector[1] + a[1] + b[1], vector[2] + a[2] + b[2])


def _cross(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
