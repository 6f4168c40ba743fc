"""A real Ray cluster on this machine: slow to start, so one test does everything."""

import os
import signal

import pytest

from vtt_policies import campaign
from vtt_policies.campaign import read_evaluation, run_conditions
from vtt_policies.trial import Condition, Runner, Trial

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster():
    """Two nodes with one worker each."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False)
    yield ray
    ray.shutdown()
    nodes.shutdown()


def test_a_cluster_finds_what_one_machine_finds_even_if_a_worker_dies(cluster, tmp_path, monkeypatch):
    # The toy of these tests exists in this process only.
    trial = Trial("vtt_envs:vtt/PegInsertion-v0", "expert", ("num_threads=1",), num_envs=2)
    options = {"n": 12, "first_seed": 10**9}
    died = tmp_path / "died"

    class Mortal(Runner):
        """A worker that is killed in the middle of its work, once."""

        def run(self, batch, condition):
            if batch.seeds[0] == 10**9 + 4 and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().run(batch, condition)

    alone = run_conditions(trial, [Condition()], **options)["none"]
    monkeypatch.setattr(campaign, "Runner", Mortal)
    out = tmp_path / "expert.json"
    spread = run_conditions(trial, [Condition()], **options, out=out, ray_address="auto", workers=2)["none"]
    assert died.exists()
    assert (spread.seeds, spread.outcomes, spread.steps) == (alone.seeds, alone.outcomes, alone.steps)
    assert spread.peak_force == alone.peak_force
    assert read_evaluation(out)[0].n == 12
