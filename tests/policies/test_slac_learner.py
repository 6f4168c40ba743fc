import numpy as np
import pytest
import torch

from vtt.errors import StateError
from vtt.normalizer import Normalizer
from vtt.streams import StreamSpec
from vtt_policies.slac.config import AgentConfig, ModelConfig
from vtt_policies.slac.learner import SlacLearner
from vtt_policies.slac.model import WorldModel
from vtt_policies.slac.policy import SlacNetwork
from vtt_policies.slac.replay import SequenceReplay

SPECS = {
    "camera_front": StreamSpec("image", (16, 16, 3), "uint8", "1", 20.0),
    "tactile_left": StreamSpec("tactile_image", (16, 16, 3), "uint8", "1", 20.0),
}


@pytest.fixture
def learner():
    """Build a learner, and windows of episodes of noise that all end for good."""

    def build(**agent):
        config = ModelConfig(width=4, z1_dim=3, z2_dim=5, hidden_dim=16, sequence=3, min_gap=1)
        rng = np.random.default_rng(0)
        rest = {"tactile_left": np.full((16, 16, 3), 100, np.uint8)}
        torch.manual_seed(0)
        network = SlacNetwork(SPECS, config=config, hidden_dim=16, action_dim=2, num_contacts=2)
        features = network.frames.feature_dim
        world = WorldModel(network.frames.signals, feature_dim=features, action_dim=2, config=config)
        normalizer = Normalizer.fit(SPECS, {}, rest_images=rest)
        made = SlacLearner(network, world, normalizer, agent=AgentConfig(hidden_dim=16, **agent), seed=0)
        replay = SequenceReplay(tuple(SPECS), capacity=100, sequence=3)
        for _ in range(8):
            image = rng.integers(0, 256, (2, 2, 16, 16, 3), dtype=np.uint8)
            replay.add(
                {
                    "camera_front": image[0],
                    "tactile_left": image[1],
                    "contact": rng.random((2, 2)) > 0.5,
                    "action": rng.uniform(-1, 1, (1, 2)).astype(np.float32),
                    "reward": rng.random(1).astype(np.float32),
                    "terminated": np.ones(1, bool),
                }
            )
        return network, made, replay.sample(16, rng=rng)

    return build


def copies(**modules):
    return {name: [p.detach().clone() for p in module.parameters()] for name, module in modules.items()}


def moved(before, **modules):
    return {
        name
        for name, module in modules.items()
        if any(not torch.equal(old, new) for old, new in zip(before[name], module.parameters(), strict=True))
    }


def test_the_model_trains_the_encoder_and_nothing_of_the_agent(learner):
    network, made, windows = learner()
    parts = {"encoder": network.frames, "world": made.world, "actor": network.actor, "critic": made.critic}
    before = copies(**parts)
    made.update_model(windows, generator=torch.Generator().manual_seed(0))
    assert moved(before, **parts) == {"encoder", "world"}


def test_the_agent_trains_nothing_of_the_model(learner):
    network, made, windows = learner()
    parts = {"encoder": network.frames, "world": made.world, "actor": network.actor, "critic": made.critic}
    before, temperature = copies(**parts), float(made.log_temperature.detach())
    made.update_agent(windows, generator=torch.Generator().manual_seed(0))
    assert moved(before, **parts) == {"actor", "critic"}
    assert float(made.log_temperature.detach()) != temperature


def test_the_target_follows_by_its_rate(learner):
    _, made, windows = learner(target_rate=0.25)
    before = copies(target=made.target)["target"]
    made.update_agent(windows, generator=torch.Generator().manual_seed(0))
    for old, slow, fast in zip(before, made.target.parameters(), made.critic.parameters(), strict=True):
        torch.testing.assert_close(slow, 0.75 * old + 0.25 * fast)


def test_nothing_is_hoped_for_after_an_episode_that_ended_for_good(learner):
    losses = {}
    for name, terminated, shift in [("over", True, 0.0), ("over, other target", True, 5.0), ("on", False, 0.0)]:
        _, made, windows = learner()
        with torch.no_grad():
            made.target.one[-1].bias.add_(shift)
            made.target.two[-1].bias.add_(shift)
        ended = windows._replace(terminated=np.full_like(windows.terminated, terminated))
        losses[name] = made.update_agent(ended, generator=torch.Generator().manual_seed(0))["critic"]
    assert losses["over"] == losses["over, other target"] != losses["on"]


def test_critics_learn_the_reward_of_a_last_step(learner):
    _, made, windows = learner(learning_rate=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        loss = made.update_agent(windows, generator=generator)["critic"]
    # Half of each critic's squared error, summed: the variance is what knowing their mean alone would leave.
    assert loss < 0.6 * windows.reward[:, -1].var()


def test_temperature_rises_while_actions_are_too_certain(learner):
    network, made, windows = learner()
    with torch.no_grad():
        network.actor.layers[-1].bias[2:] = -10.0  # log standard deviations
    before = float(made.log_temperature.detach())
    made.update_agent(windows, generator=torch.Generator().manual_seed(0))
    assert float(made.log_temperature.detach()) > before


def test_values_beyond_any_return_stop_training(learner):
    _, made, _ = learner(discount=0.9)
    # Largest return: (1 + 1.0 * 10 * 2) / 0.1.
    made.check_value(2100.0, largest_reward=1.0)
    with pytest.raises(StateError, match=r"The critics diverge: mean value 2.11e\+03 at update 0 .* allow 210 at most"):
        made.check_value(2110.0, largest_reward=1.0)


def test_weights_that_are_no_numbers_stop_training(learner):
    network, made, windows = learner()
    with torch.no_grad():
        network.actor.layers[0].weight.fill_(float("nan"))
    with pytest.raises(
        StateError, match=r"at update 0 of the agent: the weights have diverged. Lower agent.learning_rate"
    ):
        made.update_agent(windows, generator=torch.Generator().manual_seed(0))
