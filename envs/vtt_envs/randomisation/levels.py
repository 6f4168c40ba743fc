"""Ranges chosen for the knobs, and the levels that have a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from vtt.errors import ConfigError, missing
from vtt_envs.randomisation.knobs import KNOBS
from vtt_envs.randomisation.ranges import Range

__all__ = ["LEVELS", "Randomisation", "get_level"]


@dataclass(frozen=True)
class Randomisation:
    """Ranges of everything that may differ between episodes; a knob that is None is off.

    `vtt_envs.randomisation.knobs` has the table of what each knob does, and docs/randomisation.md shows it.

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
        >>> from vtt_envs.randomisation import Uniform
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
            knob = KNOBS[name]
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
            **{name: chosen.scaled(factor, KNOBS[name].nominal) for name, chosen in self.ranges().items()}
        )


LEVELS: Mapping[str, Randomisation] = {
    "none": Randomisation(),
    "train": Randomisation(**{name: knob.train for name, knob in KNOBS.items()}),
    "hard": Randomisation(**{name: knob.hard for name, knob in KNOBS.items()}),
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
