import json
from pathlib import Path

import numpy as np
import pytest

from vtt.errors import ConfigError
from vtt_policies.bundle import save_policy
from vtt_policies.commands import bench_bundle, evaluate, export
from vtt_policies.evaluation_report import film_failures
from vtt_policies.trial import Condition, Runner, Trial, evaluate_by_name

TOY = "vtt_toy/Corners-v0"
SMALL = ["--env", TOY, "--n", "6", "--num-envs", "4"]


@pytest.fixture(scope="module")
def student(fresh_student, corners, tmp_path_factory):
    """An unfitted student's checkpoint."""
    policy, _ = fresh_student()
    folder = tmp_path_factory.mktemp("commands") / "student"
    save_policy(folder, policy, specs={key: corners(1).stream_specs()[key] for key in policy.keys}, run={"env": TOY})
    return str(folder)


def test_two_policies_and_two_files_of_results_compare_alike(tmp_path, capsys):
    evaluate.main([*SMALL, "--policy", "expert", "--against", "zero", "--out", str(tmp_path / "both")])
    ran = capsys.readouterr().out.splitlines()
    files = [str(tmp_path / "both" / f"{name}.json") for name in ("policy", "against")]
    evaluate.main(["--policy", files[0], "--against", files[1]])
    read = capsys.readouterr().out.splitlines()
    # All six seeds against none: 2 / 2^6.
    assert read[-1] == ran[-2]
    assert "Difference of success +1.000" in read[-1]
    assert read[-1].endswith("exact McNemar p = 0.031.")
    assert [line.split()[1:] for line in read[1:3]] == [line.split()[1:] for line in ran[1:3]]


def test_one_command_tells_whether_touch_is_used_and_writes_a_page(student, tmp_path, capsys):
    page = tmp_path / "report.html"
    evaluate.main([*SMALL, "--policy", student, "--touch-report", "--out", str(tmp_path), "--report", str(page)])
    printed = capsys.readouterr().out
    assert "touch_shuffled_before_contact" in printed
    assert printed.splitlines()[2].startswith("touch ")
    html = page.read_text()
    assert html.count("<video") == 6
    assert "fails" in html
    assert "touch_frozen_in_contact" in html
    assert json.loads((tmp_path / "touch_delayed.json").read_text())["delay_steps"] == 10


def test_failures_are_filmed_first_and_each_film_ends_with_its_episode():
    trial = Trial(TOY, "random", num_envs=16)
    result = evaluate_by_name(TOY, "random", n=16, num_envs=16)
    films, note = film_failures(trial, result, films=5, successes=1)
    assert note == ""
    assert [film.success for film in films] == sorted(film.success for film in films)
    assert len(films) == 5
    for film in films:
        assert film.frames.shape[1:] == (192, 192, 3)
        assert film.fps == pytest.approx(20.0)
        # The toy draws the time that has passed.
        assert (film.frames[:, 0, 0, 0] == 20 * np.arange(len(film.frames))).all()


def test_an_environment_that_cannot_draw_leaves_a_note_instead_of_films():
    trial = Trial(TOY, "zero", ("fog=1",), num_envs=2)
    films, note = film_failures(trial, evaluate_by_name(TOY, "zero", n=2))
    assert films == []
    assert note.startswith("No films: ")
    assert "fog" in note


def test_runs_are_closed_and_refuse_what_they_do_not_fit(student):
    with Runner(Trial(TOY, student, num_envs=2)) as runner:
        assert set(runner.env.single_observation_space.spaces) == {"goal", "proprioception", "tactile_left"}  # pyright: ignore[reportAttributeAccessIssue]
        assert Condition("touch_off", "in_contact").name == "touch_off_in_contact"


def test_a_bundle_is_exported_timed_and_evaluated_like_the_run_it_came_from(student, tmp_path, capsys):
    bundle = str(tmp_path / "bundle")
    export.main(["--policy", student, "--out", bundle, "--max-rate", "0.5"])
    assert capsys.readouterr().out.splitlines()[-1] == bundle
    deploy = json.loads((tmp_path / "bundle" / "config.json").read_text())["config"]["deploy"]
    assert deploy["limits"] == {"max_magnitude": 1.0, "max_rate": 0.5}
    assert "tactile_left" in (tmp_path / "bundle" / "README.md").read_text()
    bench_bundle.main([bundle, "--steps", "5"])
    header, row, _ = capsys.readouterr().out.splitlines()
    assert header.split() == ["backend", "threads", "p50", "ms", "p99", "ms", "max", "ms"]
    backend, threads, *times = row.split()
    assert (backend, threads) == ("torch", "1")
    assert 0 < float(times[0]) <= float(times[1]) <= float(times[2])
    one, other = (evaluate_by_name(TOY, policy, n=4) for policy in (student, bundle))
    assert (one.outcomes, one.steps) == (other.outcomes, other.steps)


EXPERT = {"policy": "expert", "env": TOY}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "expert"}, "env must be given to run expert, got none"),
        ({"policy": "a.json", "against": "expert"}, "env must be given to run expert"),
        ({"policy": "a.json", "perturb": "touch_off"}, "A JSON file cannot be run"),
        ({**EXPERT, "phase": "in_contact"}, "phase must come with perturb"),
        ({**EXPERT, "touch_report": True, "against": "zero"}, "touch_report must not come with"),
        ({**EXPERT, "touch_report": True, "out": Path("x.json")}, "out must be a folder"),
        ({**EXPERT, "record": Path("x"), "report": Path("y")}, "record must stand alone"),
        ({**EXPERT, "num_envs": 0}, "num_envs must be at least 1, got 0"),
    ],
)
def test_what_would_be_silently_left_out_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        evaluate.EvaluateConfig(**options)
