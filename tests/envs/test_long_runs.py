"""Ten to the fifth random steps of each task: nothing becomes NaN, flies off or sinks in."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

import vtt_envs.tasks
from vtt_envs.core import BatchedEnv

_ENVS = 64


@pytest.mark.parametrize("steps", [20, pytest.param(1600, marks=pytest.mark.slow, id="100k")])
def test_random_actions_keep_energy_and_penetration_bounded(task: str, steps: int) -> None:
    env = BatchedEnv(getattr(vtt_envs.tasks, task)(), num_envs=_ENVS, observation="tactile", num_threads=2)
    generator = np.random.default_rng(0)
    env.reset(range(_ENVS))
    model, engine = env.engine.model, env.engine
    robot = env.task.robot
    taxels = int(np.prod(robot.pad.taxels))
    free = [model.joint(index) for index in range(model.njnt) if model.jnt_type[index] == mujoco.mjtJoint.mjJNT_FREE]
    action = np.zeros((_ENVS, robot.action_size))
    energy, depth, lost, episodes = 0.0, 0.0, 0, _ENVS
    for step in range(steps):
        if step % 4 == 0:  # held for a while, which carries the tool far
            action = generator.uniform(-1, 1, action.shape)
        result = env.step(action)
        lost += int((result.truncated & (env.steps < env.horizon)).sum())
        assert all(np.isfinite(value).all() for value in env.observation.values())
        assert np.isfinite(result.reward).all()
        for joint in free:
            velocity = engine.qvel[:, joint.dofadr[0] : joint.dofadr[0] + 3]
            mass = model.body_subtreemass[joint.bodyid[0]]
            energy = max(energy, float((0.5 * mass * (velocity**2).sum(axis=1)).max()))
        depth = max(depth, *(float(engine.sensor(f"gel_{f}")[:, :taxels].max()) for f in robot.fingers))
        if len(ended := np.flatnonzero(env.done)):
            env.reset([episodes + int(index) for index in ended], ids=ended)
            episodes += len(ended)

    assert lost == 0
    assert energy < 2.0  # J: half a kilogram at 2.8 m/s
    # The gel is 4 mm thick; a corner that a turning gripper wedges against the table sinks 5.5 mm.
    assert depth < 0.006  # m
    assert episodes > _ENVS or steps < env.horizon
