import numpy as np
import pytest
import torch

from vtt.errors import ConfigError, StoreError
from vtt_policies.bundle import load_policy
from vtt_policies.config import BcConfig, DistillConfig, LearnerConfig, StudentConfig
from vtt_policies.distill import distill
from vtt_policies.imitate import imitate
from vtt_policies.training import Training
from vtt_policies.trial import evaluate_by_name

TOY = "vtt_toy/Corners-v0"
QUICK = LearnerConfig(learning_rate=3e-3, warmup=10)
SMALL = StudentConfig(hidden_dim=32)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    """Expert episodes: what the first iteration of a distillation records."""
    out = tmp_path_factory.mktemp("expert") / "run"
    config = DistillConfig(env=TOY, out=out, num_envs=192, iterations=1, updates=1, network=SMALL)
    distill(config, show_progress=False)
    return out / "rollouts"


def test_a_clone_learns_from_touch_what_one_without_cannot(tmp_path, demonstrations):
    for name, without in (("touch", "nothing"), ("control", "touch")):
        config = BcConfig(
            data=demonstrations,
            out=tmp_path / name,
            without=without,
            iterations=3,
            updates=50,
            learner=QUICK,
            network=SMALL,
        )
        imitate(config, show_progress=False)
    assert evaluate_by_name(TOY, str(tmp_path / "touch"), n=96).rate > 0.8
    assert evaluate_by_name(TOY, str(tmp_path / "control"), n=96).rate < 0.36


@pytest.mark.parametrize("rate", [1.0, 0.0])
def test_an_interrupted_clone_continues_bit_for_bit(tmp_path, monkeypatch, demonstrations, rate):
    def clone(name: str) -> dict[str, torch.Tensor]:
        learner = LearnerConfig(encoder_rate=rate)
        config = BcConfig(data=demonstrations, out=tmp_path / name, iterations=3, updates=3, learner=learner)
        imitate(config, show_progress=False)
        return load_policy(tmp_path / name)[0].network.state_dict()

    fit = Training.fit

    def die(training, buffer, **options):
        if training.iteration == 2:
            raise KeyboardInterrupt("now")
        return fit(training, buffer, **options)

    whole = clone("whole")
    monkeypatch.setattr(Training, "fit", die)
    with pytest.raises(KeyboardInterrupt, match="now"):
        clone("cut")
    monkeypatch.undo()
    continued = clone("cut")
    assert all(torch.equal(value, continued[name]) for name, value in whole.items())


def test_the_validation_loss_is_that_of_episodes_never_learned_from(tmp_path, demonstrations):
    config = BcConfig(data=demonstrations, out=tmp_path / "run", iterations=4, updates=20, learner=QUICK, held_out=0.97)
    reached = imitate(config, show_progress=False)
    # Six episodes can be learned by heart; what is right for the others cannot.
    assert reached.metrics["loss"] < 0.5 * reached.metrics["validation_loss"]
    none = imitate(
        BcConfig(data=demonstrations, out=tmp_path / "none", iterations=1, updates=1, held_out=0.0), show_progress=False
    )
    assert np.isnan(none.metrics["validation_loss"])


def test_mistakes_of_the_caller_end_in_a_sentence(tmp_path, demonstrations):
    with pytest.raises(StoreError, match="nowhere"):
        imitate(BcConfig(data=tmp_path / "nowhere", out=tmp_path / "run"), show_progress=False)
    with pytest.raises(ConfigError, match=r"held_out must be in \[0, 1\), got 1"):
        BcConfig(data=demonstrations, out=tmp_path / "run", held_out=1.0)
    with pytest.raises(ConfigError, match="held_out must leave an episode to learn from"):
        imitate(BcConfig(data=demonstrations, out=tmp_path / "run", held_out=0.999), show_progress=False)
