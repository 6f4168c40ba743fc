"""The demo as a user runs it, on a plan of seconds: it is about the chain, not about what is learned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vtt.demo import Plan, run_demo
from vtt.errors import ConfigError

_PLAN = Plan(socket_noise=0.002, episodes=12, pretrain_seconds=3, distill_seconds=6, control_seconds=3)
_RUN = f"""
from pathlib import Path
from vtt.demo import Plan, run_demo
import sys
print(run_demo(Path(sys.argv[1]), {_PLAN!r}, seed=0, n=4, device="cpu"))
"""


def _start(out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.timeout(280)
def test_an_interrupted_demo_goes_on_and_ends_with_the_path_of_its_report(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    first = _start(out)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:  # kill it in the middle of the student's training
        if (out / "student" / "metrics.csv").exists():
            break
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not (out / "report.html").exists()

    second = _start(out)
    lines = second.communicate()[0].strip().splitlines()
    assert second.returncode == 0
    assert next(line for line in lines if "done before" in line).startswith("[1/")
    assert lines[-1] == str(out / "report.html")

    summary = json.loads((out / "summary.json").read_text())
    names = ["task", "n", "expert", "student", "no_touch", "shuffled", "random", "seconds", "env_steps", "seed"]
    assert list(summary) == names
    assert summary["n"] == 4
    assert summary["expert"] == 1.0
    assert all(0 <= summary[name] <= 1 for name in ("student", "no_touch", "shuffled", "random"))
    page = (out / "report.html").read_text()
    assert "data:video/mp4;base64," in page
    assert '="http' not in page.replace('="http://www.w3.org', "")

    before = (out / "progress.json").read_bytes()
    third = _start(out)
    third.communicate()
    assert (out / "progress.json").read_bytes() == before


def test_a_demo_with_other_settings_is_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text(json.dumps({"settings": {"seed": 1}, "seconds": {}, "finished": []}))
    with pytest.raises(ConfigError, match="another seed, n"):
        run_demo(tmp_path, _PLAN, seed=0, n=4, device="cpu")
