"""Domain randomisation: what may differ between episodes, in one place.

A `Randomisation` names a range for each knob; None leaves it off. `BatchedEnv(randomisation=...)` draws every episode's
values from the episode's seed and the knob's name, so that switching one knob changes no other and not the task.

Legend: B environments, n of them, F fingers, A action size, T steps of an episode and its reset.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, missing
from vtt_envs.engine import Engine
from vtt_envs.robots import Robot
from vtt_envs.task import Task

__all__ = [
    "LEVELS",
    "Bernoulli",
    "Integers",
    "LogUniform",
    "Randomisation",
    "Randomiser",
    "Range",
    "Uniform",
    "get_level",
]


def _check_order(low: float, high: float) -> None:
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ConfigError(f"low and high must be finite and in this order, got {low} and {high}.")


@dataclass(frozen=True)
class Uniform:
    """Any number between `low` and `high` with equal density."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)

    def draw(self, generator: np.random.Generator, size: int) -> NDArray[np.float64]:
        """Draw numbers. Shape (size,)."""
        return self.low + (self.high - self.low) * generator.random(size)

    def scaled(self, factor: float, nominal: float) -> Uniform:
        """Shrink the range towards a value."""
        return Uniform(nominal + factor * (self.low - nominal), nominal + factor * (self.high - nominal))


@dataclass(frozen=True)
class LogUniform:
    """Any number between `low` and `high`, both positive, whose logarithm has equal density: for factors."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)
        if self.low <= 0:
            raise ConfigError(f"low must be positive, got {self.low}. Use Uniform for ranges that reach 0.")

    def draw(self, generator: np.random.Generator, size: int) -> NDArray[np.float64]:
        """Draw numbers. Shape (size,)."""
        return self.low * (self.high / self.low) ** generator.random(size)

    def scaled(self, factor: float, nominal: float) -> LogUniform:
        """Shrink the range towards a value."""
        return LogUniform(nominal * (self.low / nominal) ** factor, nominal * (self.high / nominal) ** factor)


@dataclass(frozen=True)
class Integers:
    """Any whole number from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)
        if self.low != int(self.low) or self.high != int(self.high):
            raise ConfigError(f"low and high must be whole numbers, got {self.low} and {self.high}.")

    def draw(self, generator: np.random.Generator, size: int) -> NDArray[np.float64]:
        """Draw numbers. Shape (size,)."""
        return np.floor(self.low + (self.high + 1 - self.low) * generator.random(size))

    def scaled(self, factor: float, nominal: float) -> Integers:
        """Shrink the range towards a value."""
        return Integers(*(round(nominal + factor * (end - nominal)) for end in (self.low, self.high)))


@dataclass(frozen=True)
class Bernoulli:
    """1 with a probability, else 0."""

    probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"probability must be in [0, 1], got {self.probability}.")

    @property
    def low(self) -> float:
        """Smallest value."""
        return float(self.probability == 1)

    @property
    def high(self) -> float:
        """Largest value."""
        return float(self.probability > 0)

    def draw(self, generator: np.random.Generator, size: int) -> NDArray[np.float64]:
        """Draw numbers. Shape (size,)."""
        return (generator.random(size) < self.probability).astype(np.float64)

    def scaled(self, factor: float, nominal: float) -> Bernoulli:
        """Shrink the probability."""
        del nominal
        return Bernoulli(factor * self.probability)


Range = Uniform | LogUniform | Integers | Bernoulli


@dataclass(frozen=True)
class Randomisation:
    """Ranges of everything that may differ between episodes; a knob that is None is off.

    Every knob is drawn once per episode; "per" says for each of what. The knobs of the steps draw how much, or how
    probable, once per episode, and then noise or events at every step. "x" multiplies, "+" adds.

    | knob | effect | per | unit | train | hard | source |
    |---|---|---|---|---|---|---|
    | `friction` | x friction of all contacts | | 1 | .8 to 1.2 | .5 to 1.5 | 1, train |
    | `mass` | x mass and inertia of the objects | | 1 | .8 to 1.25 | .5 to 2 | |
    | `damping` | x damping of joints and of actuators | | 1 | .8 to 1.25 | .5 to 2 | |
    | `actuator_gain` | x stiffness and force of actuators, so grip too | | 1 | .9 to 1.1 | .67 to 1.33 | 1, hard |
    | `action_latency` | steps by which actions come late | | step | 0 to 1 | 0 to 2 | |
    | `gel_stiffness` | x stiffness of gels, normal and shear | | 1 | .8 to 1.25 | .43 to 1.5 | 1, hard |
    | `gel_damping` | x damping of gels, normal and shear | | 1 | .8 to 1.2 | .4 to 1.25 | |
    | `pad_shift` | + place of the sensed window | finger, axis | m | -.0005 to .0005 | -.0015 to .0015 | |
    | `pad_depth` | + distance at which touch precedes contact | finger | m | -.00005 to .00005 | -.0001 to .0001 | |
    | `camera_shift` | + place of the camera along its axes | camera, axis | m | -.01 to .01 | -.03 to .03 | |
    | `camera_turn` | + rotation vector in its axes | camera, axis | rad | -.03 to .03 | -.08 to .08 | |
    | `camera_view` | x vertical field of view | camera | 1 | .95 to 1.05 | .85 to 1.15 | |
    | `camera_light` | + turn of the light about x, y of the base | axis | rad | -.3 to .3 | -.8 to .8 | |
    | `camera_brightness` | x light | | 1 | .8 to 1.2 | .5 to 1.5 | 1, hard |
    | `camera_colour` | + at most this on any colour of any body | | 1 | 0 to .1 | 0 to .3 | |
    | `touch_light` | x brightness of the image | finger, colour | 1 | .92 to 1.08 | .8 to 1.25 | 2, train |
    | `touch_rest` | + at most this, offset and tilts, each colour | finger | grey level | 0 to 4 | 0 to 12 | 2, train |
    | `touch_wear` | x smooth pattern, at most 1 plus or minus this | finger | 1 | 0 to .1 | 0 to .3 | |
    | `touch_scratches` | number of bright or dark lines | finger | 1 | 0 to 1 | 0 to 4 | |
    | `touch_gain` | x change from the rest image | finger | 1 | .85 to 1.15 | .6 to 1.4 | |
    | `touch_noise` | + noise of this deviation at each step | | grey level | .5 to 1.5 | 1 to 4 | 2, train |
    | `touch_markers` | probability of dots that move with the gel's shear | | 1 | off | .3 | 3 |
    | `touch_marker_pitch` | distance of the dots; .002 if off | | m | off | .0016 to .0024 | 3 |
    | `touch_latency` | steps by which images come late | | step | 0 to 1 | 0 to 2 | |
    | `touch_drop` | probability, at each step, of the last image again | finger | 1 | 0 to .1 | 0 to .5 | 3 |
    | `touch_dead` | probability of the rest image throughout | finger | 1 | .01 | .05 | |
    | `proprioception_noise` | + noise of this deviation at each step | | m | 0 to .0002 | 0 to .001 | |
    | `goal_jitter` | + noise of this deviation at each step | | m, 1 | 0 to .0005 | 0 to .002 | |
    | `wrench_noise` | + noise of this deviation at each step | | N | 0 to .1 | 0 to .5 | |

    The noise of proprioception is that of positions; angles and quaternions have 5 rad/m times as much, velocities
    sqrt(2) / step times as much, as differences of two readings have. Torques have .05 m times the noise of forces.
    The noise of the goal comes atop the error that a task draws for the episode; each component has it in its unit.
    Noise of images has the sensor's spectrum and correlation of colours (`vtt_sensors.noise`); its deviation is
    rounded to 1/8 grey level, gains of images to 1/32. The wrist camera shifts by a quarter of the range. `friction`
    and `mass` scale what a task has drawn. Controllers and the compensated wrench go on believing in the nominal mass.
    Factors of physics are log-uniform, but for the gain.

    Sources: 1 TacSL (arXiv 2408.06506 and its code): friction x .8 to 1.2; controller 400 to 800 N/m; gel 150 to 350 of
    350 N/m; colour jitter of .5. 2 tactile-mnist 0.13, measured on GelSight Minis, deviations: gain of a colour
    .047, pattern and offset 2.4 grey levels, noise .97. 3 GelSight Mini: 10 x 7 dots on 19 x 14 mm; 10 to 18 of 25
    frames/s arrive on Linux, so a tenth to half of the control steps get no new one. Where none stands, ours.

    Raises:
        ConfigError: If a range leaves a knob's bounds, or has the wrong kind.

    Example:
        >>> Randomisation(friction=Uniform(0.5, 1.5)).scaled(0.5)
        Randomisation(friction=Uniform(low=0.75, high=1.25))
    """

    friction: Range | None = None
    mass: Range | None = None
    damping: Range | None = None
    actuator_gain: Range | None = None
    action_latency: Range | None = None
    gel_stiffness: Range | None = None
    gel_damping: Range | None = None
    pad_shift: Range | None = None
    pad_depth: Range | None = None
    camera_shift: Range | None = None
    camera_turn: Range | None = None
    camera_view: Range | None = None
    camera_light: Range | None = None
    camera_brightness: Range | None = None
    camera_colour: Range | None = None
    touch_light: Range | None = None
    touch_rest: Range | None = None
    touch_wear: Range | None = None
    touch_scratches: Range | None = None
    touch_gain: Range | None = None
    touch_noise: Range | None = None
    touch_markers: Range | None = None
    touch_marker_pitch: Range | None = None
    touch_latency: Range | None = None
    touch_drop: Range | None = None
    touch_dead: Range | None = None
    proprioception_noise: Range | None = None
    goal_jitter: Range | None = None
    wrench_noise: Range | None = None

    def __post_init__(self) -> None:
        for name, chosen in self.ranges().items():
            knob = _KNOBS[name]
            if not isinstance(chosen, knob.kinds):
                kinds = " or ".join(kind.__name__ for kind in knob.kinds)
                raise ConfigError(f"{name} must be {kinds}, got {chosen!r}.")
            low, high = knob.bounds
            if not low <= chosen.low <= chosen.high <= high:
                raise ConfigError(f"{name} must be in [{low:g}, {high:g}], got {chosen!r}.")

    def __repr__(self) -> str:
        return f"Randomisation({', '.join(f'{name}={chosen!r}' for name, chosen in self.ranges().items())})"

    def ranges(self) -> dict[str, Range]:
        """Return what is on, by name."""
        chosen = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in chosen.items() if value is not None}

    def scaled(self, factor: float) -> Randomisation:
        """Shrink every range towards the nominal value: 1 leaves it, 0 is as good as level `none`.

        Raises:
            ConfigError: If `factor` is not in [0, 1].
        """
        if not 0 <= factor <= 1:
            raise ConfigError(f"factor must be in [0, 1], got {factor}.")
        return Randomisation(
            **{name: chosen.scaled(factor, _KNOBS[name].nominal) for name, chosen in self.ranges().items()}
        )


class _Knob(NamedTuple):
    """What is fixed about a knob: its value when off, its bounds, the kinds of ranges it takes and its parts."""

    nominal: float
    bounds: tuple[float, float]
    parts: tuple[str, ...] = ("",)
    per_finger: bool = False
    per_camera: bool = False
    kinds: tuple[type, ...] = (Uniform, LogUniform)


_FACTOR = partial(_Knob, 1.0, (0.1, 10.0))
_SIZE = partial(_Knob, 0.0)
_STEPS = partial(_Knob, 0.0, (0, 10), kinds=(Integers,))
_CHANCE = partial(_Knob, 0.0, (0, 1), kinds=(Bernoulli,))
_KNOBS = {
    "friction": _FACTOR(),
    "mass": _FACTOR(),
    "damping": _FACTOR(),
    "actuator_gain": _FACTOR(),
    "action_latency": _STEPS(),
    "gel_stiffness": _FACTOR(),
    # With more, the contact (400 / s, see `GelPad`) overshoots within a physics step of 2 ms and chatters.
    "gel_damping": _Knob(1.0, (0.1, 1.25)),
    "pad_shift": _SIZE((-0.005, 0.005), ("across", "along"), per_finger=True),
    "pad_depth": _SIZE((-0.0005, 0.0005), per_finger=True),
    "camera_shift": _SIZE((-0.1, 0.1), ("x", "y", "z"), per_camera=True),
    "camera_turn": _SIZE((-0.5, 0.5), ("x", "y", "z"), per_camera=True),
    "camera_view": _Knob(1.0, (0.5, 2.0), per_camera=True),
    "camera_light": _SIZE((-1.5, 1.5), ("x", "y")),
    "camera_brightness": _Knob(1.0, (0.1, 3.0)),
    "camera_colour": _SIZE((0, 1)),
    "touch_light": _Knob(1.0, (0.3, 2.0), ("red", "green", "blue"), per_finger=True),
    "touch_rest": _SIZE((0, 60), per_finger=True),
    "touch_wear": _SIZE((0, 0.8), per_finger=True),
    "touch_scratches": _Knob(0.0, (0, 8), per_finger=True, kinds=(Integers,)),
    "touch_gain": _Knob(1.0, (0.1, 2.0), per_finger=True),
    "touch_noise": _SIZE((0, 8)),
    "touch_markers": _CHANCE(),
    "touch_marker_pitch": _Knob(0.002, (0.001, 0.01)),
    "touch_latency": _STEPS(),
    "touch_drop": _SIZE((0, 1), per_finger=True),
    "touch_dead": _CHANCE(per_finger=True),
    "proprioception_noise": _SIZE((0, 0.01)),
    "goal_jitter": _SIZE((0, 0.02)),
    "wrench_noise": _SIZE((0, 10)),
}

LEVELS: Mapping[str, Randomisation] = {
    "none": Randomisation(),
    "train": Randomisation(
        friction=LogUniform(0.8, 1.2),
        mass=LogUniform(0.8, 1.25),
        damping=LogUniform(0.8, 1.25),
        actuator_gain=Uniform(0.9, 1.1),
        action_latency=Integers(0, 1),
        gel_stiffness=LogUniform(0.8, 1.25),
        gel_damping=LogUniform(0.8, 1.2),
        pad_shift=Uniform(-0.0005, 0.0005),
        pad_depth=Uniform(-0.00005, 0.00005),
        camera_shift=Uniform(-0.01, 0.01),
        camera_turn=Uniform(-0.03, 0.03),
        camera_view=Uniform(0.95, 1.05),
        camera_light=Uniform(-0.3, 0.3),
        camera_brightness=Uniform(0.8, 1.2),
        camera_colour=Uniform(0, 0.1),
        touch_light=Uniform(0.92, 1.08),
        touch_rest=Uniform(0, 4),
        touch_wear=Uniform(0, 0.1),
        touch_scratches=Integers(0, 1),
        touch_gain=Uniform(0.85, 1.15),
        touch_noise=Uniform(0.5, 1.5),
        touch_latency=Integers(0, 1),
        touch_drop=Uniform(0, 0.1),
        touch_dead=Bernoulli(0.01),
        proprioception_noise=Uniform(0, 0.0002),
        goal_jitter=Uniform(0, 0.0005),
        wrench_noise=Uniform(0, 0.1),
    ),
    "hard": Randomisation(
        friction=LogUniform(0.5, 1.5),
        mass=LogUniform(0.5, 2),
        damping=LogUniform(0.5, 2),
        actuator_gain=Uniform(0.67, 1.33),
        action_latency=Integers(0, 2),
        gel_stiffness=LogUniform(0.43, 1.5),
        gel_damping=LogUniform(0.4, 1.25),
        pad_shift=Uniform(-0.0015, 0.0015),
        pad_depth=Uniform(-0.0001, 0.0001),
        camera_shift=Uniform(-0.03, 0.03),
        camera_turn=Uniform(-0.08, 0.08),
        camera_view=Uniform(0.85, 1.15),
        camera_light=Uniform(-0.8, 0.8),
        camera_brightness=Uniform(0.5, 1.5),
        camera_colour=Uniform(0, 0.3),
        touch_light=Uniform(0.8, 1.25),
        touch_rest=Uniform(0, 12),
        touch_wear=Uniform(0, 0.3),
        touch_scratches=Integers(0, 4),
        touch_gain=Uniform(0.6, 1.4),
        touch_noise=Uniform(1, 4),
        touch_markers=Bernoulli(0.3),
        touch_marker_pitch=Uniform(0.0016, 0.0024),
        touch_latency=Integers(0, 2),
        touch_drop=Uniform(0, 0.5),
        touch_dead=Bernoulli(0.05),
        proprioception_noise=Uniform(0, 0.001),
        goal_jitter=Uniform(0, 0.002),
        wrench_noise=Uniform(0, 0.5),
    ),
}
"""Named levels: `none`, `train` for policies that shall leave the simulation, `hard` to find out where they break."""


def get_level(level: str | Randomisation) -> Randomisation:
    """Return a level by its name, or a randomisation as it is.

    Raises:
        MissingError: If there is no such level.
    """
    if isinstance(level, Randomisation):
        return level
    if level not in LEVELS:
        raise missing("level of randomisation", level, LEVELS)
    return LEVELS[level]


class Randomiser:
    """Draws the values of a batch's episodes, and applies those that concern physics, actions and vectors.

    Whoever applies the others (touch, cameras) reads `value` and `pattern` after `begin`.

    Args:
        randomisation: The ranges.
        engine: The simulations, with the task bound to them.
        task: What is simulated.
        control_dt: Time between two actions, in [s].
        cameras: Names of the cameras.
        leave_out: Beginnings of the names of knobs to leave out: what is not observed needs no randomisation.
        patterns: Shapes of further numbers, uniform in [-1, 1), that a knob needs for an episode, by its name.
    """

    def __init__(
        self,
        randomisation: Randomisation,
        engine: Engine,
        task: Task,
        *,
        control_dt: float,
        cameras: Sequence[str] = (),
        leave_out: Iterable[str] = (),
        patterns: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self._fingers, self._cameras = task.robot.fingers, tuple(cameras)
        self._factor = 1.0
        left_out = tuple(leave_out)
        self._ranges = {
            name: chosen for name, chosen in randomisation.ranges().items() if not name.startswith(left_out)
        }
        size = engine.num_envs
        self._values = {
            name: np.full((size, *self._shape(name)), _KNOBS[name].nominal, dtype=np.float64) for name in self._ranges
        }
        steps = task.horizon + 1
        lengths = {
            "proprioception_noise": len(task.robot.proprioception_names),
            "goal_jitter": len(task.goal_names),
            "wrench_noise": 6,
        }
        self._normal = {
            name: np.zeros((size, steps, length)) for name, length in lengths.items() if name in self._ranges
        }
        self._patterns = {
            name: np.zeros((size, *shape)) for name, shape in (patterns or {}).items() if name in self._ranges
        }
        self._physics = _Physics(engine, task, self._ranges)
        self._sigma = _proprioception_sigma(task.robot, control_dt)
        self._quat = np.array(
            [i for i, name in enumerate(task.robot.proprioception_names) if "quat" in name], dtype=int
        )
        self._rest_action = np.array(task.rest_action or (0.0,) * task.robot.action_size)
        slots = self.slots("action_latency")
        self._actions = None if slots is None else np.zeros((slots, size, task.robot.action_size))

    def set_factor(self, factor: float) -> None:
        """Shrink the ranges of the episodes to come; see `Randomisation.scaled`."""
        if not 0 <= factor <= 1:
            raise ConfigError(f"factor must be in [0, 1], got {factor}.")
        self._factor = factor

    def value(self, name: str) -> NDArray[np.float64] | None:
        """Return the drawn values of a knob, or None if it is off. Shape (B, [F or cameras], [parts])."""
        return self._values.get(name)

    def uses(self, prefix: str) -> bool:
        """Whether a knob of that beginning is on."""
        return any(name.startswith(prefix) for name in self._ranges)

    def slots(self, name: str) -> int | None:
        """Return how many values a delay of at most as many steps has to keep, or None if the knob is off."""
        return int(self._ranges[name].high) + 1 if name in self._ranges else None

    def pattern(self, name: str) -> NDArray[np.float64]:
        """Return the further numbers of a knob that is on, in [-1, 1). Shape (B, ...)."""
        return self._patterns[name]

    def drawn(self) -> dict[str, NDArray[np.float64]]:
        """Return the drawn values by knob, finger or camera, and part. Shapes (B,)."""
        flat = {}
        for name, values in self._values.items():
            parts = [f"_{part}" if part else "" for part in _KNOBS[name].parts]
            owners = [f"_{owner}" for owner in self._owners(name)] or [""]
            columns = values.reshape(len(values), -1).T.copy()
            names = [f"{name}{owner}{part}" for owner in owners for part in parts]
            flat |= dict(zip(names, columns, strict=True))
        return flat

    def restore(self, ids: NDArray[np.intp]) -> None:
        """Set the physics back to what the task built, before it is reset."""
        self._physics.restore(ids)

    def begin(self, ids: NDArray[np.intp], seeds: Sequence[int]) -> None:
        """Draw the values of new episodes and apply the physics, after the task's reset."""
        for name, chosen in self._ranges.items():
            scaled = chosen.scaled(self._factor, _KNOBS[name].nominal)
            values, key = self._values[name], zlib.crc32(name.encode())
            for index, seed in zip(ids, seeds, strict=True):
                generator = np.random.default_rng([seed, key])
                values[index] = scaled.draw(generator, values[index].size).reshape(values.shape[1:])
                if name == "camera_shift":
                    values[index, 1:] *= _WRIST_SHIFT
                if name in self._normal:
                    generator.standard_normal(out=self._normal[name][index])
                if name in self._patterns:
                    self._patterns[name][index] = generator.uniform(-1, 1, self._patterns[name].shape[1:])
        self._physics.apply(ids, self._values)
        if self._actions is not None:
            self._actions[:, ids] = self._rest_action

    def delay(self, ids: NDArray[np.intp], action: NDArray, steps: NDArray[np.integer]) -> NDArray:
        """Return the actions (n, A) that arrive now, at step `steps` (n,) of the episodes, and keep those given."""
        late = self.value("action_latency")
        if self._actions is None or late is None:
            return action
        slots = len(self._actions)
        self._actions[steps % slots, ids] = action
        return self._actions[(steps - late[ids].astype(np.int64)) % slots, ids].astype(action.dtype)

    def disturb(self, observation: Mapping[str, NDArray], ids: NDArray[np.intp], steps: NDArray[np.integer]) -> None:
        """Add noise to the vectors of the observation, in place."""
        for name, key, sigma in [
            ("proprioception_noise", "proprioception", self._sigma),
            ("goal_jitter", "goal", 1.0),
            ("wrench_noise", "wrench", _WRENCH_SIGMA),
        ]:
            size = self.value(name)
            if size is None or key not in observation:
                continue
            observation[key][ids] += size[ids, None] * sigma * self._normal[name][ids, steps]
            if key == "proprioception" and len(self._quat) and size[ids].any():
                columns = np.ix_(ids, self._quat)
                quat_wxyz = observation[key][columns]
                noisy = quat_wxyz / np.linalg.norm(quat_wxyz, axis=1, keepdims=True)
                observation[key][columns] = np.where(size[ids, None] > 0, noisy, quat_wxyz)

    def _shape(self, name: str) -> tuple[int, ...]:
        owners, parts = self._owners(name), _KNOBS[name].parts
        return ((len(owners),) if owners else ()) + ((len(parts),) if parts != ("",) else ())

    def _owners(self, name: str) -> tuple[str, ...]:
        """What a knob draws separate values for: fingers, cameras or nothing."""
        return self._fingers if _KNOBS[name].per_finger else self._cameras if _KNOBS[name].per_camera else ()


# Torque noise of a wrist sensor in [m] times its force noise: ranges of an ATI Mini40, 40 N and 2 N m.
_WRENCH_SIGMA = np.array([1.0] * 3 + [0.05] * 3)
_WRIST_SHIFT = 0.25  # the wrist camera stands four times as near to what it sees
_ANGLE = 5.0  # rad/m: an encoder's error of 1 mm at a lever of .2 m


def _proprioception_sigma(robot: Robot, control_dt: float) -> NDArray[np.float64]:
    """Standard deviation of each component for 1 m of the position's, by its name."""
    rate = np.sqrt(2) / control_dt  # of the difference of two readings
    sigma = []
    for name in robot.proprioception_names:
        angle = any(word in name for word in ("quat", "angular", "joint", "angle"))
        sigma.append((_ANGLE if angle else 1.0) * (rate if "velocity" in name else 1.0))
    return np.array(sigma)


class _Physics:
    """Writes factors into the fields that a batch keeps per simulation, relative to what the task drew.

    MuJoCo's contacts soften with the inverse weights that it derives from masses, so a lighter object would also sit in
    a softer gel: they stay those of the task's mass.
    """

    def __init__(self, engine: Engine, task: Task, ranges: Mapping[str, Range]) -> None:
        model, fingers = engine.model, task.robot.fingers
        gel_joints = [model.joint(f"gel_{f}_{motion}").id for f in fingers for motion in ("across", "along", "twist")]
        gel_dofs = np.array([model.joint(joint).dofadr[0] for joint in gel_joints])
        other_dofs = np.setdiff1d(np.arange(model.nv), gel_dofs)
        pads = np.array([model.geom(f"pad_{f}").id for f in fingers])
        objects = np.array([model.body(name).id for name in task.objects])
        # Field, and the entries of one simulation's value that a knob scales.
        targets: dict[str, list[tuple[str, tuple]]] = {
            "friction": [("geom_friction", (slice(None),))],
            "mass": [("body_mass", (objects,)), ("body_inertia", (objects,))],
            "damping": [("dof_damping", (other_dofs,)), ("actuator_biasprm", (slice(None), 2))],
            "actuator_gain": [
                ("actuator_gainprm", (slice(None), 0)),
                ("actuator_biasprm", (slice(None), slice(0, 2))),
            ],
            # solref of a pad is (-stiffness, -damping), see `GelPad`.
            "gel_stiffness": [("jnt_stiffness", (np.array(gel_joints),)), ("geom_solref", (pads, 0))],
            "gel_damping": [("dof_damping", (gel_dofs,)), ("geom_solref", (pads, 1))],
        }
        self._engine = engine
        self._targets = {name: entries for name, entries in targets.items() if name in ranges}
        self._windows: NDArray[np.intp] | None = None
        self._sign = np.array([-1.0 if finger in task.robot.mirrored else 1.0 for finger in fingers])
        names = {field for entries in self._targets.values() for field, _ in entries}
        if {"pad_shift", "pad_depth"} & set(ranges):
            self._windows = np.array([model.geom(f"gel_{f}").id for f in fingers])
            names.add("geom_pos")
        self._fields = {name: engine.expand(name) for name in sorted(names)}
        self._softness = [engine.expand(name) for name in ("body_invweight0", "dof_invweight0") if "mass" in ranges]
        self._nominal = {name: field.copy() for name, field in self._fields.items()}

    def restore(self, ids: NDArray[np.intp]) -> None:
        """Write back the values from before any episode."""
        for name, field in self._fields.items():
            field[ids] = self._nominal[name][ids]

    def apply(self, ids: NDArray[np.intp], values: Mapping[str, NDArray]) -> None:
        """Scale what the task has left in the fields."""
        for name, entries in self._targets.items():
            for field, where in entries:
                rows = self._fields[field][ids]
                part = rows[(slice(None), *where)]
                rows[(slice(None), *where)] = part * values[name][ids].reshape(-1, *[1] * (part.ndim - 1))
                self._fields[field][ids] = rows
        if self._windows is not None:
            place = self._fields["geom_pos"][ids]
            if "pad_shift" in values:
                # Columns run along z of the finger, rows along -x, +x on a mirrored finger.
                place[:, self._windows, 0] -= self._sign * values["pad_shift"][ids, :, 0]
                place[:, self._windows, 2] += values["pad_shift"][ids, :, 1]
            if "pad_depth" in values:
                place[:, self._windows, 1] -= self._sign * values["pad_depth"][ids]
            self._fields["geom_pos"][ids] = place
        if "mass" in values:
            kept = [field[ids] for field in self._softness]
            self._engine.set_const(ids)
            for field, before in zip(self._softness, kept, strict=True):
                field[ids] = before
