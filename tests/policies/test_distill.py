import pytest
import torch

from vtt.errors import ConfigError, MissingError, StoreError
from vtt.runs import RunFolder
from vtt.store import EpisodeStore
from vtt_policies.bundle import load_policy
from vtt_policies.config import DistillConfig, LearnerConfig, StudentConfig
from vtt_policies.distill import distill, training_seeds
from vtt_policies.evaluation import FIRST_EVALUATION_SEED, evaluation_seeds
from vtt_policies.training import Training
from vtt_policies.trial import evaluate_by_name, record_by_name

TOY = "vtt_toy/Corners-v0"
SMALL = StudentConfig(hidden_dim=32)
QUICK = LearnerConfig(learning_rate=3e-3, warmup=10)


def settings(out, **changes) -> DistillConfig:
    toy = {"env": TOY, "out": out, "num_envs": 32, "iterations": 6, "updates": 30, "network": SMALL, "learner": QUICK}
    return DistillConfig(**{**toy, **changes})


def brief(out, **changes) -> DistillConfig:
    return settings(out, **{"num_envs": 6, "iterations": 4, "updates": 3, **changes})


def weights(run) -> dict[str, torch.Tensor]:
    return load_policy(run)[0].network.state_dict()


def assert_equal_runs(one, other):
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name
    rows = [RunFolder.open(run).metrics().rows() for run in (one, other)]
    for first, second in zip(*rows, strict=True):
        timed = {"seconds", "rollout_seconds", "update_seconds"}
        assert {k: v for k, v in first.items() if k not in timed} == {k: v for k, v in second.items() if k not in timed}


def test_a_student_learns_what_the_expert_knows_and_needs_touch_for_it(tmp_path):
    distill(settings(tmp_path / "touch"), show_progress=False)
    distill(settings(tmp_path / "control", without="touch"), show_progress=False)

    def rate(name: str, **options) -> float:
        return evaluate_by_name(TOY, str(tmp_path / name), n=96, **options).rate

    assert rate("touch") > 0.9
    # One corner in four is right; a control that is lucky with 1 % probability reaches .36.
    assert rate("control") < 0.36
    assert rate("touch", perturb="touch_shuffled") < 0.36
    assert rate("touch", perturb="touch_off") < 0.36


def test_a_frozen_encoder_is_enough_for_the_toy(tmp_path):
    frozen = LearnerConfig(learning_rate=3e-3, warmup=10, encoder_rate=0.0)
    distill(settings(tmp_path / "run", learner=frozen, updates=60), show_progress=False)
    assert evaluate_by_name(TOY, str(tmp_path / "run"), n=96).rate > 0.9


@pytest.mark.parametrize(
    "changes",
    [
        {"freeze_from": 1.0},
        {"freeze_from": 0.4},
        {"learner": LearnerConfig(encoder_rate=0.0)},
        {"expert_iterations": 3},
    ],
    ids=["trained", "frozen later", "frozen", "mixed"],
)
def test_an_interrupted_run_continues_bit_for_bit(tmp_path, monkeypatch, changes):
    distill(brief(tmp_path / "whole", **changes), show_progress=False)

    commit = Training.commit

    def die(training, row):
        # After rollout and updates, before anything of this iteration but its episodes is on disk.
        if training.iteration == 3:
            raise KeyboardInterrupt("now")
        commit(training, row)

    monkeypatch.setattr(Training, "commit", die)
    with pytest.raises(KeyboardInterrupt, match="now"):
        distill(brief(tmp_path / "cut", **changes), show_progress=False)
    monkeypatch.undo()
    reached = distill(brief(tmp_path / "cut", **changes), show_progress=False)
    assert (reached.iterations, reached.finished) == (4, True)
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")
    assert len(EpisodeStore.open(tmp_path / "cut" / "rollouts")) == 4 * 6


def test_a_finished_run_is_left_as_it_is(tmp_path):
    first = distill(brief(tmp_path / "run", iterations=2), show_progress=False)
    again = distill(brief(tmp_path / "run", iterations=2), show_progress=False)
    assert again.metrics == first.metrics


def test_a_larger_budget_continues_a_run_and_other_settings_do_not(tmp_path):
    distill(brief(tmp_path / "run", iterations=2), show_progress=False)
    assert distill(brief(tmp_path / "run", iterations=3), show_progress=False).iterations == 3
    with pytest.raises(ConfigError, match=r"other settings: seed 0 \(now 1\)\. Choose another folder"):
        distill(brief(tmp_path / "run", seed=1), show_progress=False)


def test_a_folder_with_other_files_is_not_taken_over(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="must be a run or empty, got other files"):
        distill(brief(tmp_path), show_progress=False)
    assert (tmp_path / "thesis.tex").exists()


def test_time_that_runs_out_ends_a_run_with_all_of_its_step_sizes(tmp_path):
    reached = distill(brief(tmp_path / "run", iterations=10_000, seconds=2.0), show_progress=False)
    assert not reached.finished
    assert 2.0 <= reached.seconds < 6.0
    assert reached.metrics["learning_rate"] < 0.1 * QUICK.learning_rate


def test_everything_that_was_driven_is_on_disk(tmp_path):
    reached = distill(brief(tmp_path / "run"), show_progress=False)
    store = EpisodeStore.open(tmp_path / "run" / "rollouts")
    assert len(store) == reached.metrics["episodes"] == 24
    assert store.read_all("action").data.shape == (reached.metrics["env_steps"], 2)
    assert [store.episode_attributes(index)["iteration"] for index in (0, 5, 6, 23)] == [0, 0, 1, 3]
    assert store.attributes["env"] == TOY
    assert set(store.streams) >= {"tactile_left", "proprioception", "goal", "expert_action", "success", "contact"}


def test_training_never_draws_a_seed_of_evaluation():
    seeds = [training_seeds(seed, iteration, 64) for seed in range(3) for iteration in range(3)]
    assert max(map(max, seeds)) < FIRST_EVALUATION_SEED
    assert len({tuple(row) for row in seeds}) == 9


def test_rollouts_of_one_run_are_demonstrations_of_the_next(tmp_path):
    distill(brief(tmp_path / "first", iterations=1), show_progress=False)
    data = tmp_path / "first" / "rollouts"
    distill(brief(tmp_path / "second", data=data, iterations=2), show_progress=False)
    rows = RunFolder.open(tmp_path / "second").metrics().rows()
    assert [row["episodes"] for row in rows] == [6, 12]
    assert len(EpisodeStore.open(tmp_path / "second" / "rollouts")) == 6


def test_the_expert_drives_less_and_less():
    shares = [brief("run", expert_iterations=4).expert_share(iteration) for iteration in range(6)]
    assert shares == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


def test_a_recorded_episode_holds_what_the_student_does_not_see(tmp_path):
    distill(brief(tmp_path / "run", iterations=1, without="touch"), show_progress=False)
    record_by_name(TOY, str(tmp_path / "run"), tmp_path / "store", n=3)
    store = EpisodeStore.open(tmp_path / "store")
    assert len(store) == 3
    assert {"privileged", "tactile_left", "action", "expert_action", "success"} <= set(store.streams)
    assert [store.episode_attributes(index)["seed"] for index in range(3)] == list(evaluation_seeds(3))


def test_an_environment_that_differs_from_the_students_is_refused(tmp_path):
    distill(brief(tmp_path / "run", iterations=1), show_progress=False)
    with pytest.raises(ConfigError, match="must accept the options gravity"):
        evaluate_by_name(TOY, str(tmp_path / "run"), env_args=("gravity=3",))
    with pytest.raises(MissingError, match="No environment 'vtt_toy/Nowhere-v0'"):
        evaluate_by_name("vtt_toy/Nowhere-v0", str(tmp_path / "run"))
    with pytest.raises(StoreError, match="No checkpoint at"):
        evaluate_by_name(TOY, str(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"student": "all"}, ConfigError, "student must not see privileged observations"),
        ({"student": "touchy"}, MissingError, "No observation word or key 'touchy'"),
        ({"env": "vtt_toy/Nowhere-v0"}, MissingError, "No environment 'vtt_toy/Nowhere-v0'"),
        ({"env_args": ("noise",)}, ConfigError, "must be key=value, got 'noise'"),
    ],
)
def test_mistakes_end_in_a_sentence_and_leave_no_folder(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        distill(brief(tmp_path / "run", **changes), show_progress=False)
    assert not (tmp_path / "run").exists()


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="A budget must end"):
        brief("run", iterations=None)
    with pytest.raises(ConfigError, match="updates must be positive, got 0"):
        brief("run", updates=0)
