"""The table of the knobs: all that may differ between episodes beyond what a task draws itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from vtt_envs.randomisation.ranges import Bernoulli, Integers, LogUniform, Range, Uniform

__all__ = ["KNOBS", "Knob"]


@dataclass(frozen=True)
class Knob:
    """What is fixed about a knob.

    Every knob is drawn once per episode. A knob of the steps draws how much, or how probable, once per episode, and
    then noise or events at every step.

    Attributes:
        effect: What it does; "x" multiplies, "+" adds.
        train: Its range at level `train`, or None where it is off.
        hard: Its range at level `hard`.
        unit: Of its values.
        nominal: Value when off.
        bounds: Least and largest value that is allowed.
        owner: What draws values of its own: "finger", "camera" or, if one serves all, nothing.
        parts: Names of the values that each owner draws, if there are several.
        source: Number of the source of a range in `Randomisation`, and the level; where there is none, the range is
            ours.
    """

    effect: str
    train: Range | None
    hard: Range
    unit: str = "1"
    nominal: float = 0.0
    bounds: tuple[float, float] = (0.0, 1.0)
    owner: str = ""
    parts: tuple[str, ...] = ()
    source: str = ""

    @property
    def kinds(self) -> tuple[type, ...]:
        """Kinds of ranges it takes."""
        return (type(self.hard),) if isinstance(self.hard, Integers | Bernoulli) else (Uniform, LogUniform)


_AXES, _COLOURS = ("x", "y", "z"), ("red", "green", "blue")
_FACTOR = partial(Knob, nominal=1.0, bounds=(0.1, 10.0))
_STEPS = partial(Knob, unit="step", bounds=(0, 10))

KNOBS: Mapping[str, Knob] = {
    "friction": _FACTOR("x friction of all contacts", LogUniform(0.8, 1.2), LogUniform(0.5, 1.5), source="1, train"),
    "mass": _FACTOR("x mass and inertia of the objects", LogUniform(0.8, 1.25), LogUniform(0.5, 2)),
    "damping": _FACTOR("x damping of joints and of actuators", LogUniform(0.8, 1.25), LogUniform(0.5, 2)),
    "actuator_gain": _FACTOR(
        "x stiffness and force of actuators, so grip too", Uniform(0.9, 1.1), Uniform(0.67, 1.33), source="1, hard"
    ),
    "action_latency": _STEPS("steps by which actions come late", Integers(0, 1), Integers(0, 2)),
    "gel_stiffness": _FACTOR(
        "x stiffness of gels, normal and shear", LogUniform(0.8, 1.25), LogUniform(0.43, 1.5), source="1, hard"
    ),
    # With more, the contact (400 / s, see `GelPad`) overshoots within a physics step of 2 ms and chatters.
    "gel_damping": Knob(
        "x damping of gels, normal and shear",
        LogUniform(0.8, 1.2),
        LogUniform(0.4, 1.25),
        nominal=1.0,
        bounds=(0.1, 1.25),
    ),
    "pad_shift": Knob(
        "+ place of the sensed window",
        Uniform(-0.0005, 0.0005),
        Uniform(-0.0015, 0.0015),
        bounds=(-0.005, 0.005),
        unit="m",
        owner="finger",
        parts=("across", "along"),
    ),
    "pad_depth": Knob(
        "+ distance at which touch precedes contact",
        Uniform(-0.00005, 0.00005),
        Uniform(-0.0001, 0.0001),
        bounds=(-0.0005, 0.0005),
        unit="m",
        owner="finger",
    ),
    "camera_shift": Knob(
        "+ place of the camera along its axes",
        Uniform(-0.01, 0.01),
        Uniform(-0.03, 0.03),
        bounds=(-0.1, 0.1),
        unit="m",
        owner="camera",
        parts=_AXES,
    ),
    "camera_turn": Knob(
        "+ rotation vector in its axes",
        Uniform(-0.03, 0.03),
        Uniform(-0.08, 0.08),
        bounds=(-0.5, 0.5),
        unit="rad",
        owner="camera",
        parts=_AXES,
    ),
    "camera_view": Knob(
        "x vertical field of view",
        Uniform(0.95, 1.05),
        Uniform(0.85, 1.15),
        nominal=1.0,
        bounds=(0.5, 2.0),
        owner="camera",
    ),
    "camera_light": Knob(
        "+ turn of the light about x, y of the base",
        Uniform(-0.3, 0.3),
        Uniform(-0.8, 0.8),
        bounds=(-1.5, 1.5),
        unit="rad",
        parts=_AXES[:2],
    ),
    "camera_brightness": Knob(
        "x light", Uniform(0.8, 1.2), Uniform(0.5, 1.5), nominal=1.0, bounds=(0.1, 3.0), source="1, hard"
    ),
    "camera_colour": Knob("+ at most this on any colour of any body", Uniform(0, 0.1), Uniform(0, 0.3)),
    "touch_light": Knob(
        "x brightness of the image",
        Uniform(0.92, 1.08),
        Uniform(0.8, 1.25),
        nominal=1.0,
        bounds=(0.3, 2.0),
        owner="finger",
        parts=_COLOURS,
        source="2, train",
    ),
    "touch_rest": Knob(
        "+ at most this, offset and tilts, each colour",
        Uniform(0, 4),
        Uniform(0, 12),
        bounds=(0, 60),
        unit="grey level",
        owner="finger",
        source="2, train",
    ),
    "touch_wear": Knob(
        "x smooth pattern, at most 1 plus or minus this",
        Uniform(0, 0.1),
        Uniform(0, 0.3),
        bounds=(0, 0.8),
        owner="finger",
    ),
    "touch_scratches": Knob(
        "number of bright or dark lines", Integers(0, 1), Integers(0, 4), bounds=(0, 8), owner="finger"
    ),
    "touch_gain": Knob(
        "x change from the rest image",
        Uniform(0.85, 1.15),
        Uniform(0.6, 1.4),
        nominal=1.0,
        bounds=(0.1, 2.0),
        owner="finger",
    ),
    "touch_noise": Knob(
        "+ noise of this deviation at each step",
        Uniform(0.5, 1.5),
        Uniform(1, 4),
        bounds=(0, 8),
        unit="grey level",
        source="2, train",
    ),
    "touch_markers": Knob("probability of dots that move with the gel's shear", None, Bernoulli(0.3), source="3"),
    "touch_marker_pitch": Knob(
        "distance of the dots; .002 if off",
        None,
        Uniform(0.0016, 0.0024),
        nominal=0.002,
        bounds=(0.001, 0.01),
        unit="m",
        source="3",
    ),
    "touch_latency": _STEPS("steps by which images come late", Integers(0, 1), Integers(0, 2)),
    "touch_drop": Knob(
        "probability, at each step, of the last image again",
        Uniform(0, 0.1),
        Uniform(0, 0.5),
        owner="finger",
        source="3",
    ),
    "touch_dead": Knob("probability of the rest image throughout", Bernoulli(0.01), Bernoulli(0.05), owner="finger"),
    "proprioception_noise": Knob(
        "+ noise of this deviation at each step", Uniform(0, 0.0002), Uniform(0, 0.001), bounds=(0, 0.01), unit="m"
    ),
    "goal_jitter": Knob(
        "+ noise of this deviation at each step", Uniform(0, 0.0005), Uniform(0, 0.002), bounds=(0, 0.02), unit="m, 1"
    ),
    "wrench_noise": Knob(
        "+ noise of this deviation at each step", Uniform(0, 0.1), Uniform(0, 0.5), bounds=(0, 10), unit="N"
    ),
}
