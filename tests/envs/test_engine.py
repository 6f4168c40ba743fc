"""The engine against MuJoCo itself."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from vtt_envs import tasks
from vtt_envs.core import BatchedEnv


@pytest.mark.parametrize("task", ["PegInsertion", "Push"])
def test_what_the_engine_leaves_out_of_a_substep_changes_no_bit(task: str) -> None:
    env = BatchedEnv(getattr(tasks, task)(), num_envs=2, observation="tactile", num_threads=1)
    env.reset([3, 4])
    for _ in range(4):
        env.step(env.expert_action())
    engine, action = env.engine, env.expert_action()
    control = env.task.robot.control(engine, np.arange(2), action, payload=env.task.payload)
    alone = [(engine.batch.get_model(index), engine.batch.get_data(index)) for index in range(2)]

    env.step(action)

    for index, (model, data) in enumerate(alone):
        model.opt.disableflags = 0  # sensors, their contacts, islands and trees of boxes are all on
        data.ctrl[:] = control[index]
        for _ in range(env.task.substeps):
            mujoco.mj_step(model, data)
        np.testing.assert_array_equal(engine.qpos[index], data.qpos)
        np.testing.assert_array_equal(engine.qvel[index], data.qvel)
        mujoco.mj_forward(model, data)
        np.testing.assert_array_equal(engine.sensor("gel_left")[index], data.sensor("gel_left").data)


def test_data_of_one_simulation_are_those_of_its_present_state() -> None:
    env = BatchedEnv(tasks.Push(), num_envs=3, observation="tactile", num_threads=1)
    env.reset([3, 4, 5])
    env.step(env.expert_action())

    for index in range(3):
        data = env.engine.data(index)
        np.testing.assert_array_equal(data.qpos, env.engine.qpos[index])
        np.testing.assert_array_equal(data.body("tool").xpos, env.engine.body_position("tool")[index])
        np.testing.assert_array_equal(data.sensor("gel_right").data, env.engine.sensor("gel_right")[index])


def test_mujocos_timers_stand_still() -> None:
    env = BatchedEnv(tasks.Push(), num_envs=1, observation="oracle", num_threads=1)
    env.reset([3])
    data = env.engine.data(0)

    mujoco.mj_step(env.engine.model, data)

    assert [timer.number for timer in data.timer][mujoco.mjtTimer.mjTIMER_STEP] > 0
    assert not any(timer.duration for timer in data.timer)
