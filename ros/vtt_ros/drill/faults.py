"""The faults of the drill: who is broken, how, what the gate must say, and how soon the robot must stop."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COMMAND_TIMEOUT", "FAULTS", "IMAGE_TIMEOUT", "PERMIT_TIMEOUT", "ROBOT_TIMEOUT", "Fault"]

COMMAND_TIMEOUT = 0.12
"""Silence of the policy that the gate takes for a fault, s."""

IMAGE_TIMEOUT = 0.1
"""Silence of a sensor, s."""

PERMIT_TIMEOUT = 0.3
"""Silence of the operator, s."""

ROBOT_TIMEOUT = 0.15
"""Silence of the gate after which the robot stops by itself, s."""

_MESSAGE = 0.02
_SLACK = 0.03


class Fault(NamedTuple):
    """One way to break the graph.

    Attributes:
        name: What it is called.
        actor: The process that is broken.
        word: What the actor is told; empty for a signal.
        signal: Name of the signal that its process gets; empty for a word.
        says: Part of the fault that the gate must name; empty where the gate itself dies.
        limit: Time to the first zero at the robot on an idle machine, s.
        joints: Whether it needs a robot that takes joint velocities.
    """

    name: str
    actor: str
    word: str = ""
    signal: str = ""
    says: str = ""
    limit: float = _MESSAGE
    joints: bool = False


FAULTS: tuple[Fault, ...] = (
    Fault("policy killed", "policy", signal="SIGKILL", says="policy is silent", limit=COMMAND_TIMEOUT + _SLACK),
    Fault("policy stopped", "policy", signal="SIGSTOP", says="policy is silent", limit=COMMAND_TIMEOUT + _SLACK),
    Fault("NaN", "policy", word="nan", says="not finite"),
    Fault("infinity", "policy", word="inf", says="not finite"),
    Fault("spike", "policy", word="spike", says="is above"),
    Fault("jump within the speed limit", "policy", word="jump", says="jumps by"),
    Fault("stamp 300 ms late", "policy", word="late", says="stale"),
    Fault("stamp 300 ms ahead", "policy", word="future", says="from the future"),
    Fault("another session", "policy", word="session", says="another session"),
    Fault("wrong joint names", "policy", word="names", says="wrong joint names", joints=True),
    Fault("a joint too few", "policy", word="short", says="numbers", joints=True),
    Fault("second publisher", "intruder", says="second publisher", limit=0.1),
    Fault("sensor killed", "sensor", signal="SIGKILL", says="image_raw is silent", limit=IMAGE_TIMEOUT + _SLACK),
    Fault("sensor stalled", "sensor", word="stall", says="image_raw is silent", limit=IMAGE_TIMEOUT + _SLACK),
    # Fifteen equal frames at 60 Hz.
    Fault("sensor frozen", "sensor", word="freeze", says="is frozen", limit=15 / 60.0 + _SLACK),
    Fault("emergency stop", "operator", word="forbid", says="permit was withdrawn"),
    Fault("permit lost", "operator", word="vanish", says="permit is silent", limit=PERMIT_TIMEOUT + _SLACK),
    Fault("gate ended", "gate", signal="SIGTERM", limit=_MESSAGE + _SLACK),
    Fault("gate killed", "gate", signal="SIGKILL", limit=ROBOT_TIMEOUT + _SLACK),
)
