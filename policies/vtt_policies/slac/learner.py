"""Fits the latent model, the critics, the actor and the temperature: one update of each at a time.

Axes: B windows · S transitions, T = S + 1 frames · F feature · A action · Z latent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vtt.errors import StateError
from vtt.normalizer import Normalizer
from vtt.objectives import gradient_norms
from vtt_policies.slac.agent import TwinCritic
from vtt_policies.slac.config import AgentConfig
from vtt_policies.slac.model import TensorWindows, WorldModel, to_tensors
from vtt_policies.slac.policy import SlacNetwork
from vtt_policies.slac.replay import Windows

__all__ = ["SlacLearner"]

# A tanh-Gaussian's log density rarely exceeds this per action dimension.
_LOG_DENSITY = 10.0
# A critic that exceeds any possible return by this factor is not coming back.
_DIVERGED = 10.0


class SlacLearner:
    """Adam on everything that is learned.

    Args:
        network: Encoder, which only the model's losses train, and actor.
        world: The latent model.
        normalizer: Prepares raw observations.
        agent: Step sizes of actor and critics.
        seed: Draws the critics' weights.
        device: Where the networks are.
    """

    def __init__(
        self,
        network: SlacNetwork,
        world: WorldModel,
        normalizer: Normalizer,
        *,
        agent: AgentConfig,
        seed: int,
        device: str | torch.device = "cpu",
    ) -> None:
        self.frames, self.actor, self.world = network.frames, network.actor, world
        self.agent = agent
        self.model_updates = self.agent_updates = 0
        self._normalizer = normalizer
        self._device = torch.device(device)
        self._action_dim = action_dim = network.action_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            critic = TwinCritic(world.latent.z_dim, action_dim, hidden=agent.hidden_dim)
            target = TwinCritic(world.latent.z_dim, action_dim, hidden=agent.hidden_dim)
        target.load_state_dict(critic.state_dict())
        self.critic, self.target = critic.to(device), target.to(device).requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(agent.temperature), device=device))
        rate = agent.learning_rate
        predicting = [*network.frames.parameters(), *world.parameters()]
        self._optimizers = {
            "model": torch.optim.Adam(predicting, lr=world.config.learning_rate),
            "critic": torch.optim.Adam(self.critic.parameters(), lr=rate),
            "actor": torch.optim.Adam(network.actor.parameters(), lr=rate),
            "temperature": torch.optim.Adam([self.log_temperature], lr=rate),
        }

    def update_model(self, windows: Windows, *, generator: torch.Generator) -> dict[str, float]:
        """Take one step on the latent model and the encoder.

        Returns:
            The losses by name, in nats per window.

        Raises:
            StateError: If a loss is not finite; says which, and where that comes from.
        """
        self.frames.train()
        losses = self.world.losses(self.frames, self._tensors(windows), generator=generator)
        values = _check(losses, f"update {self.model_updates} of the model", windows, rate="model.learning_rate")
        self._step("model", torch.stack(list(losses.values())).sum())
        self.model_updates += 1
        return values

    def update_agent(self, windows: Windows, *, generator: torch.Generator) -> dict[str, float]:
        """Take one step on critics, actor and temperature, on the last transition of each window.

        Args:
            windows: What happened.
            generator: Draws latents and actions.

        Returns:
            Losses, mean value, entropy and temperature.

        Raises:
            StateError: If a loss is not finite or the values exceed what rewards allow; says the cause.
        """
        seen = self._tensors(windows)
        self.frames.eval()
        with torch.no_grad():
            feature = self.frames(seen.observation)[0].unflatten(0, seen.valid.shape)  # (B, T, F)
            z = self.world.filter(feature, seen, generator=generator).z  # (B, T, Z)
            feature = feature * seen.valid[..., None]
            wanted = self._target(z[:, -1], feature[:, 1:], seen.action[:, 1:], generator)
            goal = seen.reward[:, -1] + self.agent.discount * (1.0 - seen.terminated[:, -1]) * wanted
        value = self.critic(z[:, -2], seen.action[:, -1])  # (2, B)
        critic_loss = 0.5 * (value - goal).square().mean(1).sum()
        self._step("critic", critic_loss)

        temperature = self.log_temperature.detach().exp()
        action, density = self.actor.sample(feature[:, :-1], seen.action[:, :-1], generator=generator)
        actor_loss = (temperature * density - self.critic(z[:, -2], action).amin(0)).mean()
        self._step("actor", actor_loss)

        # Haarnoja et al. 2018 (arXiv 1812.05905), eqn. 18, with the target entropy -A.
        temperature_loss = -self.log_temperature * (density.detach().mean() - self._action_dim)
        self._step("temperature", temperature_loss)
        self._follow()
        losses = {"critic": critic_loss, "actor": actor_loss, "temperature_loss": temperature_loss}
        where = f"update {self.agent_updates} of the agent"
        values = _check(losses, where, windows, rate="agent.learning_rate")
        values |= {"value": float(value.detach().mean()), "entropy": -float(density.detach().mean())}
        values["temperature"] = float(self.log_temperature.detach().exp())
        self.agent_updates += 1
        return values

    def gradient_norms(self, windows: Windows, *, generator: torch.Generator) -> dict[str, float]:
        """Measure how hard each loss pulls at the encoder: the norm of its gradient, as `gradient_<loss>`."""
        self.frames.train()
        losses = self.world.losses(self.frames, self._tensors(windows), generator=generator)
        norms = gradient_norms(losses, self.frames.parameters())
        return {f"gradient_{name}": norm for name, norm in norms.items()}

    def check_value(self, value: float, *, largest_reward: float) -> None:
        """Stop when critics have left what any return could be.

        Args:
            value: Mean value of a batch.
            largest_reward: Largest absolute reward so far.

        Raises:
            StateError: If it is an order of magnitude beyond.
        """
        entropy = float(self.log_temperature.detach().exp()) * _LOG_DENSITY * self._action_dim
        bound = (largest_reward + entropy) / (1.0 - self.agent.discount)
        if abs(value) > _DIVERGED * bound:
            raise StateError(
                f"The critics diverge: mean value {value:.3g} at update {self.agent_updates} of the agent, but rewards "
                f"up to {largest_reward:.3g} allow {bound:.3g} at most. Lower agent.learning_rate or agent.target_rate."
            )

    def state(self) -> dict[str, Any]:
        """Return everything a resumed run needs besides encoder and actor."""
        return {
            "model_updates": self.model_updates,
            "agent_updates": self.agent_updates,
            "world": self.world.state_dict(),
            "critic": self.critic.state_dict(),
            "target": self.target.state_dict(),
            "log_temperature": self.log_temperature.detach(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.model_updates, self.agent_updates = state["model_updates"], state["agent_updates"]
        self.world.load_state_dict(state["world"])
        self.critic.load_state_dict(state["critic"])
        self.target.load_state_dict(state["target"])
        with torch.no_grad():
            self.log_temperature.copy_(state["log_temperature"])
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])

    def _tensors(self, windows: Windows) -> TensorWindows:
        return to_tensors(windows, self._normalizer, device=self._device)

    def _target(self, z: Tensor, feature: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        """Soft value (B,) of the last frames."""
        following, density = self.actor.sample(feature, action, generator=generator)
        return self.target(z, following).amin(0) - self.log_temperature.exp() * density

    def _step(self, name: str, loss: Tensor) -> None:
        """Take a step on one part; gradients that reach others are dropped before they step."""
        optimizer = self._optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the target take over a share of the critic."""
        for slow, fast in zip(self.target.parameters(), self.critic.parameters(), strict=True):
            slow.lerp_(fast, self.agent.target_rate)


def _check(losses: Mapping[str, Tensor], where: str, windows: Windows, *, rate: str) -> dict[str, float]:
    """Read losses; refuse those that are not finite."""
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        arrays = {**windows.observation, "action": windows.action, "reward": windows.reward}
        damaged = [key for key, array in arrays.items() if not bool(torch.isfinite(torch.as_tensor(array)).all())]
        told = f"Losses must be finite, got {', '.join(bad)} at {where}"
        if damaged:
            raise StateError(
                f"{told}: {', '.join(damaged)} of the batch hold values that are not. Correct the environment."
            )
        raise StateError(f"{told}: the weights have diverged. Lower {rate}.")
    return values
