"""Policies that predict chunks of actions: ACT and diffusion policy, each over any mix of observations."""
