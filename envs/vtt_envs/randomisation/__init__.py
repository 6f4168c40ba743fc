"""Domain randomisation: what may differ between episodes, in one place.

A `Randomisation` names a range for each knob; None leaves it off. `BatchedEnv(randomisation=...)` draws every episode's
values from the episode's seed and the knob's name, so that switching one knob changes no other and not the task.
"""

from vtt_envs.randomisation.knobs import KNOBS, Knob
from vtt_envs.randomisation.levels import LEVELS, Randomisation, get_level
from vtt_envs.randomisation.randomiser import Randomiser
from vtt_envs.randomisation.ranges import Bernoulli, Integers, LogUniform, Range, Uniform

__all__ = [
    "KNOBS",
    "LEVELS",
    "Bernoulli",
    "Integers",
    "Knob",
    "LogUniform",
    "Randomisation",
    "Randomiser",
    "Range",
    "Uniform",
    "get_level",
]
