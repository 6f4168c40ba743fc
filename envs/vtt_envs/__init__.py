"""Visuo-tactile manipulation tasks on batched MuJoCo.

Importing this package registers its environments with Gymnasium:

    >>> import gymnasium as gym
    >>> env = gym.make("vtt_envs:vtt/PegInsertion-v0", observation="tactile")
    >>> envs = gym.make_vec("vtt_envs:vtt/PegInsertion-v0", num_envs=64, vectorization_mode="vector_entry_point")

Keyword arguments go to the task where it knows them (`socket_noise=0.005`), else to the batched environment
(`observation="tactile"`, `num_threads=2`). `vtt_envs.make_sb3` builds the stable-baselines3 skin from the same id.
"""

from vtt_envs.registration import TASKS, make_sb3, register_all

__all__ = ["TASKS", "make_sb3"]

register_all()
