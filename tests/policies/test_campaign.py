import json
from pathlib import Path

import pytest

from vtt.errors import ConfigError, StoreError
from vtt_policies import campaign
from vtt_policies.bundle import save_policy
from vtt_policies.campaign import read_evaluation, run_conditions
from vtt_policies.trial import TOUCH_REPORT, Condition, Runner, Trial

TOY = "vtt_toy/Corners-v0"
FIRST = 10**9
AS_IT_IS = Condition()
RANDOM = Trial(TOY, "random", num_envs=4)


@pytest.fixture
def ran(monkeypatch):
    """The batches that were really run."""
    batches = []

    class Noting(Runner):
        def run(self, batch, condition):
            batches.append((condition.name, batch.seeds[0] - FIRST))
            return super().run(batch, condition)

    monkeypatch.setattr(campaign, "Runner", Noting)
    return batches


@pytest.fixture(scope="module")
def student(fresh_student, corners, tmp_path_factory):
    """An unfitted student's checkpoint."""
    policy, _ = fresh_student()
    folder = tmp_path_factory.mktemp("campaign") / "student"
    save_policy(folder, policy, specs={key: corners(1).stream_specs()[key] for key in policy.keys}, run={})
    return str(folder)


def run(trial=RANDOM, *, n: int, out=None, conditions=(AS_IT_IS,)):
    return run_conditions(trial, conditions, n=n, first_seed=FIRST, out=out)


def outcomes(results) -> dict:
    return {name: (row.seeds, row.outcomes, row.steps) for name, row in results.items()}


def test_what_is_on_disk_is_not_run_again(tmp_path, ran):
    out = tmp_path / "random.json"
    first = run(n=10, out=out)
    assert [seed for _, seed in ran] == [0, 4, 8]
    assert outcomes(run(n=10, out=out)) == outcomes(first)
    assert len(ran) == 3
    # The last batch was filled with seeds that were not asked for: it is run whole.
    longer = run(n=14, out=out)
    assert [seed for _, seed in ran[3:]] == [8, 12]
    assert outcomes(longer) == outcomes(run(n=14))
    assert outcomes(run(n=6, out=out)) == outcomes(run(n=6))
    assert json.loads(out.read_text())["n"] == 14


def test_an_interrupted_evaluation_goes_on_with_the_next_batch(tmp_path, ran, monkeypatch):
    out = tmp_path / "random.json"
    whole = campaign.Runner.run

    def dying(self, batch, condition):
        if batch.seeds[0] == FIRST + 8:
            raise KeyboardInterrupt("stopped")
        return whole(self, batch, condition)

    monkeypatch.setattr(campaign.Runner, "run", dying)
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        run(n=12, out=out)
    assert read_evaluation(out)[0].n == 8
    monkeypatch.setattr(campaign.Runner, "run", whole)
    ran.clear()
    assert outcomes(run(n=12, out=out)) == outcomes(run(n=12))
    assert ran[0] == ("none", 8)


def test_results_of_something_else_are_never_mixed_in(tmp_path, student):
    out = tmp_path / "result.json"
    run(n=4, out=out)
    with pytest.raises(ConfigError, match=r"holds another evaluation: policy random \(now zero\)"):
        run(Trial(TOY, "zero", num_envs=4), n=4, out=out)
    with pytest.raises(ConfigError, match=r"env_args \[\] \(now \['noise=0.1'\]\)"):
        run(Trial(TOY, "random", ("noise=0.1",), num_envs=4), n=4, out=out)
    out.write_text("{")
    with pytest.raises(StoreError, match="is missing or damaged"):
        run(n=4, out=out)
    out.write_text("{}")
    with pytest.raises(StoreError, match="must be an evaluation written by"):
        read_evaluation(out)


def test_a_retrained_policy_is_another_policy(tmp_path, student):
    facts = Trial(TOY, student).facts()
    weights = Path(student) / "model.safetensors"
    held = weights.read_bytes()
    weights.write_bytes(held + b" ")
    assert Trial(TOY, student).facts()["weights"] != facts["weights"]
    weights.write_bytes(held)
    assert Trial(TOY, student).facts() == facts
    assert Trial(TOY, "expert").facts()["weights"] is None


def test_touch_is_not_taken_from_who_has_none(fresh_student, corners, tmp_path, ran):
    policy, _ = fresh_student(keys="proprio")
    save_policy(tmp_path / "blind", policy, specs={key: corners(1).stream_specs()[key] for key in policy.keys}, run={})
    with pytest.raises(ConfigError, match="touch_shuffled must have touch to act on, got a policy that sees only goal"):
        run(Trial(TOY, str(tmp_path / "blind"), num_envs=4), n=4, conditions=TOUCH_REPORT)
    with pytest.raises(ConfigError, match="touch_off must have touch to act on, got a policy that sees nothing"):
        run(n=4, conditions=(Condition("touch_off"),))
    assert ran == []


def test_a_touch_report_holds_every_control_in_every_phase_on_the_same_seeds(tmp_path, student):
    results = run(Trial(TOY, student, num_envs=4), n=4, out=tmp_path, conditions=TOUCH_REPORT)
    assert len(results) == 13
    assert next(iter(results)) == "none"
    assert {row.seeds for row in results.values()} == {tuple(range(FIRST, FIRST + 4))}
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == sorted(results)
    # The toy never tells contact: until the first contact is always, and during contact never.
    for name in ("touch_off", "touch_shuffled", "touch_frozen", "touch_delayed"):
        assert results[f"{name}_before_contact"].steps == results[name].steps
        assert results[f"{name}_in_contact"].steps == results["none"].steps
