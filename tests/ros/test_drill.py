"""Real nodes in real processes, broken on purpose."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from vtt_ros.drill.faults import FAULTS, Fault
from vtt_ros.drill.run import Drill

# A busy machine delays processes by this much; `vtt ros drill` measures without it.
_BUSY = 0.25
_BY_NAME = {fault.name: fault for fault in FAULTS}
_QUICK = ("NaN", "spike", "stamp 300 ms late", "policy killed", "sensor frozen", "emergency stop", "gate killed")


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory):
    with Drill(tmp_path_factory.mktemp("drill"), domain=91) as running:
        yield running


@pytest.fixture(scope="module")
def joint_drill(tmp_path_factory: pytest.TempPathFactory):
    with Drill(tmp_path_factory.mktemp("joint_drill"), domain=92, joints=True) as running:
        yield running


def check(drill: Drill, fault: Fault) -> None:
    outcome = drill.break_by(fault)
    assert outcome.to_zero <= fault.limit + _BUSY
    assert outcome.named, outcome.said
    assert outcome.after_zero == 0
    assert outcome.non_finite == 0


@pytest.mark.parametrize("name", _QUICK)
def test_the_robot_stops_and_the_fault_is_named(drill: Drill, name: str):
    check(drill, _BY_NAME[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [f.name for f in FAULTS if f.name not in _QUICK and not f.joints])
def test_the_robot_stops_and_the_rarer_fault_is_named(drill: Drill, name: str):
    check(drill, _BY_NAME[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [f.name for f in FAULTS if f.joints])
def test_a_robot_of_joints_stops(joint_drill: Drill, name: str):
    check(joint_drill, _BY_NAME[name])


@pytest.mark.slow
def test_killing_unrelated_processes_does_not_stop_the_robot(drill: Drill):
    storm = drill.storm(8)
    assert storm.fault == ""
    assert storm.longest_gap < 0.15 + _BUSY


def test_the_gate_comes_up_disarmed_and_says_goodbye(tmp_path: Path):
    with Drill(tmp_path, domain=93) as drill:
        operator = drill.graph["operator"]
        operator.wait_for(lambda event: event.get("state") == "disarmed", timeout=20.0, what="disarmed")
        assert drill.graph["gate"].end() == 0


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"linear_sped": 0.1}, "No parameter 'linear_sped'"),
        ({"linear_speed": 10.0}, "must be a float (write 1.0, not 1) in [0.0, 2.0]"),
        ({"linear_speed": float("nan")}, "linear_speed must be"),
        ({"workspace_low": [0.0, 0.0]}, "workspace_low must be x, y, z"),
    ],
)
def test_a_limit_that_cannot_be_meant_keeps_the_gate_from_starting(tmp_path: Path, parameters: dict, says: str):
    from vtt_ros.graph import Graph

    with Graph(domain=94) as graph:
        gate = graph.start("gate", "vtt_ros.gate.node", parameters=parameters)
        assert gate.process.wait(20.0) == 2
        gate.end()
        assert says in "\n".join(gate.output)
