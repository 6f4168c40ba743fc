"""A real Ray cluster of two nodes on this machine; slow to start."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from vtt.cluster import Cluster, spread
from vtt.errors import ConfigError, DependencyError
from vtt.store import EpisodeStore
from vtt_envs import collect as collecting
from vtt_envs.collect import Recorder, collect
from vtt_policies import campaign
from vtt_policies.campaign import read_evaluation, run_conditions
from vtt_policies.trial import Condition, Runner, Trial

PEG = "vtt_envs:vtt/PegInsertion-v0"
FIRST = 10**9


@pytest.fixture(scope="module")
def two_nodes():
    """Two nodes with one worker each."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False)
    yield
    ray.shutdown()
    nodes.shutdown()


def mortal(worker, died, at: int):
    """A worker that is killed in the middle of its work, once."""

    class Mortal(worker):
        def run(self, *task):
            if at in getattr(task[0], "seeds", task[0]) and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().run(*task)

    return Mortal


@pytest.mark.slow
def test_a_cluster_measures_what_one_machine_measures_even_if_a_worker_dies(two_nodes, tmp_path, monkeypatch):
    trial = Trial(PEG, "expert", ("num_threads=1",), num_envs=2)
    alone = run_conditions(trial, [Condition()], n=12, first_seed=FIRST)["none"]
    monkeypatch.setattr(campaign, "Runner", mortal(Runner, tmp_path / "died", FIRST + 4))
    out = tmp_path / "expert.json"
    found = run_conditions(trial, [Condition()], n=12, first_seed=FIRST, out=out, cluster=Cluster("auto"))["none"]
    assert (tmp_path / "died").exists()
    assert (found.seeds, found.outcomes, found.steps) == (alone.seeds, alone.outcomes, alone.steps)
    assert found.peak_force == alone.peak_force
    assert read_evaluation(out)[0].n == 12


@pytest.mark.slow
def test_a_cluster_records_what_one_machine_records_even_if_a_worker_dies(two_nodes, tmp_path, monkeypatch):
    options = {"episodes": 6, "env_args": {"num_threads": 1}, "observation": "tactile", "num_envs": 2}
    alone = collect(PEG, tmp_path / "alone", **options, action_noise=0.1)
    monkeypatch.setattr(collecting, "Recorder", mortal(Recorder, tmp_path / "died", 3))
    collect(PEG, tmp_path / "spread", **options, action_noise=0.1, cluster=Cluster("auto", workers=2))
    recorded = EpisodeStore.open(tmp_path / "spread")
    assert (tmp_path / "died").exists()
    assert len(recorded) == len(alone) == 6
    for index in range(6):
        assert recorded.episode_attributes(index) == alone.episode_attributes(index)
        here, there = alone.read(index), recorded.read(index)
        assert set(here) == set(there)
        for key in here:
            assert (here[key].data == there[key].data).all()
            assert (here[key].stamp_ns == there[key].stamp_ns).all()


def test_what_cannot_be_spread_says_so(monkeypatch):
    with pytest.raises(ConfigError, match="workers must be at least 1, got 0"):
        Cluster("auto", workers=0)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"Run `pip install 'vtt-stack\[ray\]'`"):
        next(spread(Runner, [], [()], Cluster("auto")))
