"""Each knob changes what it says and nothing else; an episode's draws depend on its seed alone."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

import vtt_envs
from vtt.errors import ConfigError, MissingError
from vtt.store import EpisodeStore
from vtt_envs.collect import collect
from vtt_envs.core import BatchedEnv
from vtt_envs.randomisation import KNOBS, LEVELS, Bernoulli, Integers, LogUniform, Randomisation, Uniform
from vtt_envs.tasks import PegInsertion, Push

_DOCS = Path(__file__).parents[2] / "docs"
_STEPS = 6
_FIELDS = (
    "actuator_biasprm",
    "actuator_gainprm",
    "body_inertia",
    "body_invweight0",
    "body_mass",
    "dof_damping",
    "geom_friction",
    "geom_pos",
    "geom_solref",
    "jnt_stiffness",
)
_PHYSICS = {
    "friction": {"geom_friction"},
    "mass": {"body_mass", "body_inertia"},
    "damping": {"actuator_biasprm"},  # the joints of this robot have no damping but the gels'
    "actuator_gain": {"actuator_gainprm", "actuator_biasprm"},
    "gel_stiffness": {"jnt_stiffness", "geom_solref"},
    "gel_damping": {"dof_damping", "geom_solref"},
    "pad_shift": {"geom_pos"},
    "pad_depth": {"geom_pos"},
}
_IMAGES = {"tactile_left", "tactile_right"}
_TOUCH = {*_IMAGES, "force_left", "force_right"}
# A value that is not nominal, and the observations that it alone may change at given physics.
_KNOBS = {
    "friction": (Uniform(0.7, 0.7), None),
    "mass": (Uniform(1.5, 1.5), None),
    "damping": (Uniform(1.5, 1.5), None),
    "actuator_gain": (Uniform(1.2, 1.2), None),
    "action_latency": (Integers(2, 2), None),
    "gel_stiffness": (Uniform(0.6, 0.6), None),
    "gel_damping": (Uniform(0.5, 0.5), None),
    "pad_shift": (Uniform(0.001, 0.001), _TOUCH),
    "pad_depth": (Uniform(1e-4, 1e-4), _TOUCH),
    "camera_shift": (Uniform(0.02, 0.02), {"camera_front"}),
    "camera_turn": (Uniform(0.05, 0.05), {"camera_front"}),
    "camera_view": (Uniform(1.2, 1.2), {"camera_front"}),
    "camera_light": (Uniform(0.5, 0.5), {"camera_front"}),
    "camera_brightness": (Uniform(0.7, 0.7), {"camera_front"}),
    "camera_colour": (Uniform(0.3, 0.3), {"camera_front"}),
    "touch_light": (Uniform(1.2, 1.2), _IMAGES),
    "touch_rest": (Uniform(8, 8), _IMAGES),
    "touch_wear": (Uniform(0.3, 0.3), _IMAGES),
    "touch_scratches": (Integers(4, 4), _IMAGES),
    "touch_gain": (Uniform(1.5, 1.5), _IMAGES),
    "touch_noise": (Uniform(2, 2), _IMAGES),
    "touch_markers": (Bernoulli(1), _IMAGES),
    "touch_marker_pitch": (Uniform(0.003, 0.003), set()),  # nothing without markers
    "touch_latency": (Integers(2, 2), _IMAGES),
    "touch_drop": (Uniform(0.6, 0.6), _IMAGES),
    "touch_dead": (Bernoulli(1), _IMAGES),
    "proprioception_noise": (Uniform(1e-3, 1e-3), {"proprioception"}),
    "goal_jitter": (Uniform(1e-3, 1e-3), {"goal"}),
    "wrench_noise": (Uniform(0.5, 0.5), {"wrench"}),
}


def _make(randomisation: str | Randomisation = "none", num_envs: int = 2, **kwargs: object) -> BatchedEnv:
    settings = {"observation": "all", "renderer": "rays", "num_threads": 1, **kwargs}
    return BatchedEnv(PegInsertion(), num_envs=num_envs, randomisation=randomisation, **settings)  # type: ignore[arg-type]


def _one(name: str) -> Randomisation:
    return Randomisation(**{name: _KNOBS[name][0]})


def _run(env: BatchedEnv, seeds: list[int], steps: int = _STEPS) -> dict[str, NDArray]:
    """Every observation of an episode with actions that depend on the seed alone. Shapes (steps + 1, B, ...)."""
    env.reset(seeds)
    frames = [{key: value.copy() for key, value in env.observation.items()}]
    actions = np.stack([np.random.default_rng([seed, 9]).uniform(-1, 1, (steps, 6)) for seed in seeds], axis=1)
    for action in actions:
        env.step(action * [0.3, 0.3, 0.3, 0.2, 0.2, 0.2])
        frames.append({key: value.copy() for key, value in env.observation.items()})
    return {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}


@pytest.fixture(scope="module")
def nominal() -> tuple[BatchedEnv, dict[str, NDArray]]:
    env = _make()
    return env, _run(env, [3, 4])


def test_every_knob_is_tested_here() -> None:
    assert set(_KNOBS) == set(KNOBS)
    assert list(KNOBS) == list(Randomisation.__dataclass_fields__)


@pytest.mark.parametrize("name", _KNOBS)
def test_a_knob_changes_what_it_says_and_nothing_else(name: str, nominal) -> None:
    plain, expected = nominal
    env = _make(_one(name))
    seen = _run(env, [3, 4])

    changed = {field for field in _FIELDS if not np.array_equal(env.engine.expand(field), plain.engine.expand(field))}
    assert changed == _PHYSICS.get(name, set())
    differing = {key for key in expected if not np.array_equal(seen[key], expected[key])}
    observed = _KNOBS[name][1]
    if observed is None:  # the physics itself goes another way
        assert differing == set() if name == "friction" else {"proprioception", "privileged"} <= differing  # no slip
    else:
        assert differing == observed
    assert np.isfinite(env.engine.qpos).all()


@pytest.mark.parametrize("name", ["friction", "mass", "damping", "actuator_gain", "gel_stiffness", "gel_damping"])
def test_a_factor_of_the_physics_scales_its_fields(name: str, nominal) -> None:
    plain, _ = nominal
    factor = _KNOBS[name][0].low
    env = _make(_one(name))
    env.reset([3, 4])

    for field in _PHYSICS[name]:
        value, before = env.engine.expand(field), np.array(plain.engine.expand(field))
        touched = value != before
        assert touched.any()
        np.testing.assert_allclose(value[touched], factor * before[touched])


def test_what_a_task_draws_itself_is_scaled_once_at_every_reset() -> None:
    settings = {"num_envs": 2, "observation": "oracle", "num_threads": 1}
    plain = BatchedEnv(Push(), **settings)
    env = BatchedEnv(Push(), randomisation=Randomisation(mass=Uniform(2, 2), friction=Uniform(0.5, 0.5)), **settings)

    for seeds in ([1, 2], [5, 6]):
        mass, friction = plain.reset(seeds)["privileged"][:, -2:].T
        scaled_mass, scaled_friction = env.reset(seeds)["privileged"][:, -2:].T
        np.testing.assert_allclose(scaled_mass, 2 * mass, rtol=1e-6)
        np.testing.assert_allclose(scaled_friction, 0.5 * friction, rtol=1e-6)
    np.testing.assert_array_equal(env.engine.expand("body_mass")[:, 1], plain.engine.expand("body_mass")[:, 1])


def test_a_heavier_peg_weighs_more_in_the_same_gel(nominal) -> None:
    plain, _ = nominal
    env = _make(Randomisation(mass=Uniform(1.8, 1.8)))
    for each in (plain, env):
        each.reset([3, 4])
    for _ in range(3):  # comes to rest
        for each in (plain, env):
            each.step(np.zeros((2, 6)))

    light, heavy = plain.observation["wrench"], env.observation["wrench"]
    weight = 0.8 * plain.engine.model.body("peg").mass[0] * 9.81
    np.testing.assert_allclose(
        np.linalg.norm((heavy - light)[:, :3], axis=1), weight, rtol=0.2
    )  # the tool sinks a little
    depths = [each.engine.sensor("gel_left")[:, : 48 * 64].max(axis=1) for each in (plain, env)]
    np.testing.assert_allclose(depths[1], depths[0], rtol=0.05)


def test_the_hardest_physics_keeps_the_peg_in_the_grip() -> None:
    env = _make("hard", 64, observation="tactile")
    env.reset(range(64))  # type: ignore[arg-type]

    assert env.contact()[:, :2].all()
    depth = env.engine.sensor("gel_left")[:, : 48 * 64].max(axis=1)
    assert ((depth > 3e-4) & (depth < 3.2e-3)).all()  # nominal: .9 mm


def test_every_task_takes_the_hardest_level(task: str, make_vector) -> None:
    env = make_vector(task, 3, observation="all", randomisation="hard")
    _, info = env.reset(seed=5)

    for _ in range(8):
        observation, reward, *_, info = env.step(info["expert_action"])
        assert all(np.isfinite(values).all() for values in observation.values())
        assert np.isfinite(reward).all()
    assert len(info["randomisation"]["mass"]) == 3


@pytest.mark.slow  # kernels compile for a minute
def test_mujoco_warp_gets_the_same_physics() -> None:
    pytest.importorskip("mujoco_warp")
    here, there = _make("hard", observation="tactile"), _make("hard", observation="tactile", backend="mjwarp")

    for seeds in ([1, 2], [3, 4]):
        seen, expected = there.reset(seeds), here.reset(seeds)
        for field in set(_FIELDS) - {"body_invweight0"}:
            np.testing.assert_array_equal(there.engine.expand(field), here.engine.expand(field), err_msg=field)
        np.testing.assert_allclose(seen["proprioception"], expected["proprioception"], atol=2e-3)
        assert np.abs(seen["tactile_left"].astype(int) - expected["tactile_left"]).mean() < 3


def test_a_block_slides_farther_with_less_friction() -> None:
    ways = []
    for factor in (1.0, 0.3):
        env = BatchedEnv(
            Push(),
            num_envs=2,
            observation="oracle",
            num_threads=1,
            randomisation=Randomisation(friction=Uniform(factor, factor)),
        )
        env.reset([1, 2])
        address = env.engine.model.joint("block").dofadr[0]
        start = env.engine.body_position("block").copy()
        env.engine.qvel[:, address] = 0.3
        for _ in range(10):
            env.step(np.zeros((2, 6)))
        ways.append(np.linalg.norm(env.engine.body_position("block") - start, axis=1))
    assert (ways[1] > 1.2 * ways[0]).all()


def test_late_actions_are_those_of_the_steps_before(nominal) -> None:
    plain, _ = nominal
    env = _make(_one("action_latency"), observation="oracle")
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (5, 2, 6))
    env.reset([3, 4])
    plain.reset([3, 4])

    for late, prompt in zip(actions, [np.zeros((2, 6)), np.zeros((2, 6)), *actions[:3]], strict=True):
        env.step(late)
        plain.step(prompt)
    np.testing.assert_array_equal(env.engine.qpos, plain.engine.qpos)


def test_a_dead_sensor_shows_the_rest_image_and_late_images_are_those_of_the_steps_before(nominal) -> None:
    _, expected = nominal
    env = _make(_one("touch_dead"))
    dead = _run(env, [3, 4])
    late = _run(_make(_one("touch_latency")), [3, 4])

    for key, rest in env.rest_images().items():
        assert (expected[key] != rest).any()
        assert (dead[key] == rest).all()
        np.testing.assert_array_equal(late[key][:2], np.broadcast_to(expected[key][:1], late[key][:2].shape))
        np.testing.assert_array_equal(late[key][2:], expected[key][:-2])


def test_a_lost_image_repeats_the_one_before(nominal) -> None:
    _, expected = nominal
    seen = _run(_make(_one("touch_drop")), [3, 4])["tactile_left"]

    repeats = 0
    for step in range(_STEPS + 1):
        for index in range(2):
            fresh = np.array_equal(seen[step, index], expected["tactile_left"][step, index])
            assert fresh or np.array_equal(seen[step, index], seen[step - 1, index])
            repeats += not fresh
    assert 3 <= repeats <= 11  # 7.2 of 12 expected


def test_images_are_brighter_noisier_and_steeper_by_what_was_drawn(nominal) -> None:
    _, expected = nominal
    truth = expected["tactile_left"].astype(float)
    rest = _make().rest_images()["tactile_left"].astype(float)
    inside = (truth > 30) & (truth < 150)

    bright = _run(_make(_one("touch_light")), [3, 4])["tactile_left"][inside]
    assert np.mean(bright / truth[inside]) == pytest.approx(1.2, abs=0.02)
    steep = (_run(_make(_one("touch_gain")), [3, 4])["tactile_left"] - rest)[inside & (np.abs(truth - rest) > 20)]
    assert np.mean(steep / (truth - rest)[inside & (np.abs(truth - rest) > 20)]) == pytest.approx(1.5, abs=0.02)
    noise = (_run(_make(_one("touch_noise")), [3, 4])["tactile_left"] - truth)[inside]
    assert np.std(noise) == pytest.approx(2.0, abs=0.2)
    assert abs(np.mean(noise)) < 0.15


def test_markers_move_with_the_gel() -> None:
    env = _make(Randomisation(touch_markers=Bernoulli(1)), num_envs=1, observation="tactile")
    env.reset([3])
    assert env._touch is not None
    rest = env.rest_images()["tactile_left"].astype(float)
    ids, steps = np.zeros(1, dtype=np.intp), np.ones(1, dtype=np.int64)
    address = env.engine.model.joint("gel_left_along").qposadr[0]

    def stripes(moved: float) -> NDArray:
        env.engine.qpos[0, address] = moved
        return (env._touch.images(ids, steps)[0, 0] / rest).mean(axis=(0, 2))  # type: ignore[union-attr]

    pitch = 0.01888 / 64
    still, moved = stripes(0.0), stripes(3 * pitch)
    inner = slice(8, -8)
    assert still.min() < 0.85
    assert np.abs(moved - still)[inner].max() > 0.1
    np.testing.assert_allclose(moved[inner], np.roll(still, 3)[inner], atol=0.05)


@pytest.mark.parametrize("level", ["train", "hard"])
def test_an_episode_is_the_same_at_any_batch_size(level: str) -> None:
    batch, alone = _make(level, 5), _make(level, 1)
    seeds = [11, 12, 13, 14, 15]
    seen, drawn = _run(batch, seeds), batch.drawn()

    for index in (0, 3):
        single = _run(alone, [seeds[index]])
        for key, values in single.items():
            np.testing.assert_array_equal(seen[key][:, index], values[:, 0], err_msg=key)
        assert {name: values[index] for name, values in drawn.items()} == {n: v[0] for n, v in alone.drawn().items()}


def test_a_knob_draws_the_same_whatever_else_is_on() -> None:
    all_on, one = _make("train", observation="oracle"), _make(Randomisation(mass=LEVELS["train"].mass))
    all_on.reset([1, 2])
    one.reset([1, 2])

    np.testing.assert_array_equal(all_on.drawn()["mass"], one.drawn()["mass"])
    assert all_on.drawn()["mass"][0] != all_on.drawn()["mass"][1]
    assert not [name for name in all_on.drawn() if name.startswith(("touch_", "camera_", "pad_"))]  # not observed


def test_a_reset_of_some_leaves_the_others_alone() -> None:
    env = _make("hard", 3)
    env.reset([1, 2, 3])
    before = env.drawn()

    env.reset([9], ids=np.array([1]))

    after = env.drawn()
    assert before["mass"][1] != after["mass"][1]
    for name, values in before.items():
        np.testing.assert_array_equal(values[[0, 2]], after[name][[0, 2]])


def test_the_curriculum_goes_from_nothing_to_the_whole_range(nominal) -> None:
    _, expected = nominal
    env = _make("hard")
    env.set_randomisation(0.0)
    seen = _run(env, [3, 4])
    for key, values in expected.items():
        np.testing.assert_array_equal(seen[key], values, err_msg=key)

    env.set_randomisation(0.5)
    half = _make(LEVELS["hard"].scaled(0.5))
    env.reset([3, 4])
    half.reset([3, 4])
    assert {n: v.tolist() for n, v in env.drawn().items()} == {n: v.tolist() for n, v in half.drawn().items()}
    assert LEVELS["hard"].scaled(1.0) == LEVELS["hard"]
    assert set(LEVELS["hard"].scaled(0.0).ranges().values()) & {Uniform(1, 1), LogUniform(1, 1), Integers(0, 0)}
    with pytest.raises(ConfigError, match=r"factor must be in \[0, 1\], got 1.5"):
        env.set_randomisation(1.5)
    with pytest.raises(ConfigError, match=r"factor must be in \[0, 1\], got -1"):
        _make().set_randomisation(-1)


def test_draws_lie_in_their_ranges() -> None:
    env = _make("hard", 64, observation="tactile")
    env.reset(range(64))  # type: ignore[arg-type]
    ranges = LEVELS["hard"].ranges()

    for name, values in env.drawn().items():
        knob = max((key for key in ranges if name.startswith(key)), key=len)
        assert ranges[knob].low <= values.min() <= values.max() <= ranges[knob].high
    latency = np.bincount(env.drawn()["touch_latency"].astype(int), minlength=3)
    assert (latency > 8).all()
    assert abs(np.log(env.drawn()["mass"]).mean()) < 0.2


def test_the_documented_ranges_are_those_of_the_levels() -> None:
    page = (_DOCS / "randomisation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", page, flags=re.MULTILINE)

    assert [name for name, _ in rows] == list(Randomisation.__dataclass_fields__)
    for name, row in rows:
        for text, level in zip(row.split("|")[3:5], (LEVELS["train"], LEVELS["hard"]), strict=True):
            chosen, numbers = getattr(level, name), [float(word) for word in re.findall(r"-?[\d.]+", text)]
            if chosen is None:
                assert text.strip() == "off"
            elif isinstance(chosen, Bernoulli):
                assert numbers == [chosen.probability]
            else:
                assert numbers == [chosen.low, chosen.high]


def test_the_page_has_the_table_of_the_knobs() -> None:
    maker = runpy.run_path(str(_DOCS / "make_randomisation.py"))

    assert maker["rows"]() in (_DOCS / "randomisation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(1, 0), "low and high must be finite and in this order, got 1 and 0"),
        (lambda: Uniform(0, float("nan")), "low and high must be finite"),
        (lambda: LogUniform(0, 1), "low must be positive, got 0"),
        (lambda: Integers(0, 1.5), "low and high must be whole numbers"),  # type: ignore[arg-type]
        (lambda: Bernoulli(1.5), r"probability must be in \[0, 1\], got 1.5"),
        (lambda: Randomisation(friction=Uniform(0, 1)), r"friction must be in \[0.1, 10\], got Uniform"),
        (lambda: Randomisation(touch_drop=Uniform(0, 2)), r"touch_drop must be in \[0, 1\]"),
        (lambda: Randomisation(touch_dead=Uniform(0, 1)), "touch_dead must be Bernoulli, got Uniform"),
        (lambda: Randomisation(mass=1.5), r"mass must be Uniform or LogUniform, got 1.5"),  # type: ignore[arg-type]
        (lambda: Randomisation(action_latency=Integers(0, 99)), r"action_latency must be in \[0, 10\]"),
    ],
)
def test_bad_ranges_are_refused(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_an_unknown_level_says_which_exist() -> None:
    with pytest.raises(MissingError, match=r"No level of randomisation 'hart'\. Available: hard, none, train\."):
        _make("hart")


def test_the_drawn_values_are_in_info_of_every_skin() -> None:
    settings = {"observation": "oracle", "num_threads": 1, "randomisation": Randomisation(mass=Uniform(1.5, 1.5))}
    vector = gym.make_vec("vtt_envs:vtt/Push-v0", num_envs=2, vectorization_mode="vector_entry_point", **settings)
    _, info = vector.reset(seed=0)
    np.testing.assert_array_equal(info["randomisation"]["mass"], [1.5, 1.5])
    vector.unwrapped.call("set_randomisation", 0.0)  # type: ignore[attr-defined]
    _, info = vector.reset(seed=0)
    np.testing.assert_array_equal(info["randomisation"]["mass"], [1.0, 1.0])

    single = gym.make("vtt_envs:vtt/Push-v0", **settings)
    assert single.reset(seed=0)[1]["randomisation"] == {"mass": 1.5}
    single.get_wrapper_attr("set_randomisation")(0.5)
    assert single.reset(seed=0)[1]["randomisation"] == {"mass": 1.25}
    assert "randomisation" not in gym.make("vtt_envs:vtt/Push-v0", observation="oracle").reset(seed=0)[1]

    learner = vtt_envs.make_sb3("vtt/Push-v0", num_envs=2, horizon=1, **settings)
    assert learner.env_method("set_randomisation", 0.2) == [None, None]
    learner.seed(0)
    learner.reset()
    infos = learner.step(np.zeros((2, 6), dtype=np.float32))[3]
    assert [info["randomisation"] for info in infos] == [{"mass": pytest.approx(1.1)}] * 2


def test_a_recorded_episode_tells_what_was_drawn(tmp_path: Path) -> None:
    store: EpisodeStore = collect(
        "vtt_envs:vtt/Push-v0",
        tmp_path / "episodes",
        episodes=3,
        env_args={"randomisation": "train", "num_threads": 1, "horizon": 3},
        observation="oracle",
        num_envs=2,
    )

    drawn = [store.episode_attributes(index)["randomisation"] for index in range(3)]
    assert set(drawn[0]) >= {"mass", "friction", "action_latency"}
    assert len({facts["mass"] for facts in drawn}) == 3
    env = BatchedEnv(Push(), num_envs=1, observation="oracle", num_threads=1, randomisation="train")
    env.reset([2])
    assert {name: values[0] for name, values in env.drawn().items()} == drawn[2]
