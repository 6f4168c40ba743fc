"""Randomisation of the physics: factors of fields that a batch keeps per simulation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vtt_envs.engine import Engine
from vtt_envs.randomisation.ranges import Range
from vtt_envs.task import Task

__all__ = ["Physics"]


class Physics:
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
