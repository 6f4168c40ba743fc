"""Every rule of the gate, without ROS."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtt.errors import ConfigError
from vtt_ros.gate.config import GateConfig
from vtt_ros.gate.rules import Command, Gate, Now, parse_source

MS = 1_000_000
CONFIG = GateConfig(
    images=("left",), workspace_low=(-0.1, -0.1, 0.0), workspace_high=(0.1, 0.1, 0.2), linear_acceleration=1.0
)
STILL = (0.0, 0.0, 0.0)
UPRIGHT = (1.0, 0.0, 0.0, 0.0)


class Desk:
    """A gate with everything that it needs alive, and a hand on its clocks."""

    def __init__(self, config: GateConfig = CONFIG, *, streams: tuple[str, ...] = ("tool_pose", "wrench")) -> None:
        self.gate = Gate(config, streams=streams)
        self.steady = 5_000 * MS
        self.shift = 10**15
        self.frame = 0

    @property
    def now(self) -> Now:
        return Now(self.steady, self.steady + self.shift)

    def live(self, *, without: str = "") -> None:
        """Let every stream speak once."""
        self.frame += 1
        if without != "permit":
            self.gate.hear_permit(True, self.now)
        if without != "left":
            self.gate.hear("left", self.now, digest=self.frame)
        if without != "tool_pose":
            self.gate.hear_tool((0.0, 0.0, 0.1), UPRIGHT, self.now)
        if without != "wrench":
            self.gate.hear_wrench(STILL, STILL, self.now)
        if without != "joint_states":
            self.gate.hear("joint_states", self.now)

    def armed(self) -> "Desk":
        """Arm."""
        self.live()
        assert self.gate.arm(self.now, publishers=1)
        return self

    def wait(self, ms: float, *, without: str = "") -> None:
        """Let time pass in steps of 10 ms, everything alive but one stream."""
        for _ in range(round(ms / 10)):
            self.steady += 10 * MS
            self.live(without=without)
            self.gate.tick(self.now)

    def send(self, *values: float, age_ms: float = 0.0, frame: str = "", names: tuple[str, ...] = ()):
        """Send a command."""
        frame = frame or f"tool0:{self.gate.session}:policy"
        stamp = self.now.ros - round(age_ms * MS)
        return self.gate.judge(Command(stamp, frame, tuple(values), names), self.now)


SLOW = (0.01, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_a_good_command_passes_unchanged():
    desk = Desk().armed()
    assert desk.send(*SLOW) == SLOW
    desk.wait(50)
    assert desk.send(*SLOW) == SLOW
    assert desk.gate.mode == "armed"


def test_the_gate_begins_closed():
    desk = Desk()
    desk.live()
    assert desk.send(*SLOW) is None
    assert desk.gate.mode == "disarmed"


@pytest.mark.parametrize(
    ("silent", "says"),
    [("permit", "no permit"), ("left", "left is silent"), ("tool_pose", "tool_pose is silent"), ("wrench", "wrench")],
)
def test_it_is_not_armed_while_something_required_is_silent(silent: str, says: str):
    desk = Desk()
    desk.live(without=silent)
    assert desk.gate.arm(desk.now, publishers=1) == ""
    assert says in desk.gate.obstacle(desk.now, publishers=1)


@pytest.mark.parametrize("publishers", [0, 2])
def test_it_is_not_armed_unless_exactly_one_policy_publishes(publishers: int):
    desk = Desk()
    desk.live()
    assert f"{publishers} do" in desk.gate.obstacle(desk.now, publishers=publishers)


@pytest.mark.parametrize(
    ("values", "change", "says"),
    [
        ((math.nan, 0, 0, 0, 0, 0), {}, "not finite"),
        ((0, 0, 0, 0, 0, math.inf), {}, "not finite"),
        ((0.06, 0, 0, 0, 0, 0), {}, "linear speed"),
        ((0.04, 0.04, 0, 0, 0, 0), {}, "linear speed"),
        ((0, 0, 0, 0, 0.6, 0), {}, "angular speed"),
        ((0.01, 0, 0), {}, "3 numbers"),
        (SLOW, {"age_ms": 150}, "stale command: 150 ms"),
        (SLOW, {"age_ms": -50}, "from the future"),
        (SLOW, {"frame": "tool0"}, "another session"),
        (SLOW, {"frame": "tool0:0000:policy"}, "another session"),
        (SLOW, {"names": ("joint_1",)}, "wrong joint names"),
    ],
)
def test_a_bad_command_closes_the_gate_and_is_named(values: tuple[float, ...], change: dict, says: str):
    desk = Desk().armed()
    assert desk.send(*values, **change) is None
    assert desk.gate.mode == "fault"
    assert says in desk.gate.fault
    assert desk.send(*SLOW) is None


def test_a_jump_within_the_speed_limit_is_refused():
    desk = Desk().armed()
    assert desk.send(0.04, 0, 0, 0, 0, 0) is not None
    desk.wait(50)
    assert desk.send(-0.04, 0, 0, 0, 0, 0) is None
    assert "jumps by 0.080" in desk.gate.fault


def test_a_repeated_stamp_is_refused():
    desk = Desk().armed()
    assert desk.send(*SLOW) is not None
    assert desk.send(*SLOW) is None
    assert "repeated" in desk.gate.fault


def test_a_second_publisher_of_the_same_session_is_refused():
    desk = Desk().armed()
    desk.send(*SLOW)
    desk.wait(50)
    assert desk.send(*SLOW, frame=f"tool0:{desk.gate.session}:another") is None
    assert "second publisher" in desk.gate.fault


def test_a_second_publisher_is_seen_before_it_speaks():
    desk = Desk().armed()
    desk.gate.tick(desk.now, publishers=2)
    assert "second publisher" in desk.gate.fault


def test_a_silent_policy_closes_the_gate():
    desk = Desk().armed()
    desk.send(*SLOW)
    desk.wait(120)
    assert desk.gate.mode == "armed"
    desk.wait(20)
    assert desk.gate.fault == "the policy is silent"


def test_a_policy_has_time_for_its_first_command_but_not_for_ever():
    desk = Desk().armed()
    desk.wait(4_900)
    assert desk.gate.mode == "armed"
    desk.wait(200)
    assert desk.gate.fault == "the policy sent no first command"


@pytest.mark.parametrize("silent", ["left", "tool_pose", "wrench", "permit"])
def test_a_stream_that_falls_silent_closes_the_gate(silent: str):
    desk = Desk(GateConfig(images=("left",), command_timeout=1.0)).armed()
    desk.send(*SLOW)
    desk.wait(500, without=silent)
    assert desk.gate.fault == f"the {silent} is silent" or desk.gate.fault == f"{silent} is silent"


def test_equal_frames_are_a_frozen_sensor_and_keep_the_gate_closed_until_they_change():
    desk = Desk().armed()
    for _ in range(CONFIG.frozen_frames):
        desk.gate.hear("left", desk.now, digest=7)
    assert "frozen" in desk.gate.fault
    desk.gate.reset()
    desk.gate.hear("left", desk.now, digest=7)
    assert "frozen" in desk.gate.obstacle(desk.now, publishers=1)
    desk.gate.hear("left", desk.now, digest=8)
    assert desk.gate.obstacle(desk.now, publishers=1) == ""


@pytest.mark.parametrize(("force", "torque"), [((0, 0, 31.0), STILL), (STILL, (6.0, 0, 0)), ((math.nan, 0, 0), STILL)])
def test_too_much_force_closes_the_gate(force: tuple[float, ...], torque: tuple[float, ...]):
    desk = Desk().armed()
    desk.gate.hear_wrench(force, torque, desk.now)
    assert "wrench" in desk.gate.fault


def test_leaving_the_workspace_closes_the_gate():
    desk = Desk().armed()
    desk.gate.hear_tool((0.0, 0.11, 0.1), UPRIGHT, desk.now)
    assert "outside the workspace" in desk.gate.fault


def test_a_motion_that_would_leave_the_workspace_is_refused_in_the_frame_of_the_tool():
    half_turn = (0.0, 0.0, 0.0, 1.0)  # about z: the tool's x points to the base's -x
    for quat, passes in ((UPRIGHT, False), (half_turn, True)):
        desk = Desk().armed()
        desk.gate.hear_tool((0.0975, 0.0, 0.1), quat, desk.now)
        assert (desk.send(0.03, 0, 0, 0, 0, 0) is not None) == passes
        assert ("out of the workspace" in desk.gate.fault) != passes


@pytest.mark.parametrize("jump_ms", [100, -100])
def test_a_clock_that_jumps_closes_the_gate(jump_ms: int):
    desk = Desk().armed()
    desk.send(*SLOW)
    desk.shift += jump_ms * MS
    desk.wait(10)
    assert "clock jumped" in desk.gate.fault


def test_a_slow_simulation_is_no_jump():
    desk = Desk().armed()
    for _ in range(20):
        desk.shift -= 9 * MS
        desk.send(*SLOW)
        desk.wait(10)
    assert desk.gate.mode == "armed"


def test_the_first_fault_stays_until_reset_and_reset_does_not_arm():
    desk = Desk().armed()
    desk.send(math.nan, 0, 0, 0, 0, 0)
    desk.gate.hear_permit(False, desk.now)
    desk.wait(1_000)
    assert "not finite" in desk.gate.fault
    assert "reset first" in desk.gate.obstacle(desk.now, publishers=1)
    desk.gate.reset()
    assert (desk.gate.mode, desk.gate.fault) == ("disarmed", "")
    assert desk.send(*SLOW) is None


def test_each_arming_is_a_session_of_its_own():
    desk = Desk().armed()
    first = desk.gate.session
    desk.gate.disarm()
    desk.armed()
    assert desk.send(*SLOW, frame=f"tool0:{first}:policy") is None
    assert "another session" in desk.gate.fault


def test_joint_velocities_have_limits_of_their_own():
    names = ("a", "b")
    limits = {"joint_names": names, "joint_speed": (1.0, 0.1), "joint_acceleration": (100.0, 100.0)}
    config = GateConfig(command="joint_velocity", **limits)
    for values, says in (((0.5, 0.05), ""), ((0.5, 0.2), "b at 0.200"), ((-1.1, 0.0), "a at -1.100")):
        desk = Desk(config, streams=("joint_states", "wrench")).armed()
        assert (desk.send(*values, names=names) == values) == (not says)
        assert says in desk.gate.fault


_NUMBER = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(st.lists(_NUMBER, min_size=0, max_size=8), st.floats(-400, 400)), max_size=6))
def test_whatever_comes_nothing_beyond_the_limits_passes(commands: list[tuple[list[float], float]]):
    desk = Desk().armed()
    for values, age in commands:
        passed = desk.send(*values, age_ms=age)
        if passed is not None:
            assert len(passed) == 6
            assert all(map(math.isfinite, passed))
            assert math.hypot(*passed[:3]) <= CONFIG.linear_speed
            assert math.hypot(*passed[3:]) <= CONFIG.angular_speed
        desk.wait(20)


@given(st.text(max_size=40))
def test_any_text_may_stand_in_a_frame(frame: str):
    session, publisher = parse_source(frame)
    assert (session, publisher) == ("", "") or frame.count(":") == 2


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"command": "torque"}, "command must be"),
        ({"command": "joint_velocity"}, "joint_names must name"),
        ({"joint_names": ("a",), "joint_speed": (1.0,), "joint_acceleration": (1.0,)}, "joint_names must be empty"),
        ({"command": "joint_velocity", "joint_names": ("a",)}, "one limit per joint"),
        ({"workspace_low": (0.0, 0.0)}, "x, y, z or empty"),
        ({"workspace_low": (0.0, 0.0, 0.0)}, "given together"),
        ({"workspace_low": (0.0, 0.0, 0.0), "workspace_high": (1.0, 1.0, 0.0)}, "below workspace_high"),
    ],
)
def test_limits_that_do_not_belong_together_are_refused(arguments: dict, match: str):
    with pytest.raises(ConfigError, match=match):
        GateConfig(**arguments)
