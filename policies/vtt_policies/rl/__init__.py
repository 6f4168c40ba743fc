"""Reinforcement learning by stable-baselines3 on batched environments; the only package that knows SB3."""
