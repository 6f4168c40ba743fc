"""Where the numbers of a run go: its metrics, TensorBoard, and on request Weights & Biases and Rerun."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger

from vtt.errors import DependencyError
from vtt.runs import RunFolder
from vtt_policies.rl.config import RlConfig

__all__ = ["open_logs"]


def open_logs(run: RunFolder, config: RlConfig, *, step: int) -> Logger:
    """Open all logs of a run, without what an interrupted one wrote after its last checkpoint.

    Args:
        run: The run.
        config: Which logs are wanted.
        step: The control step from which it goes on.

    Raises:
        DependencyError: If a package that a log needs is not installed.
    """
    metrics = run.metrics(through_step=step)
    writers: list[KVWriter] = [_Writer(lambda values, at: metrics.add(at, values)), _tensorboard(run.path, step)]
    if config.wandb is not None:
        writers.append(_wandb(run.path, config))
    if config.rerun:
        writers.append(_rerun(run.path, step))
    return Logger(None, writers)


class _Writer(KVWriter):
    """Hands numbers on."""

    def __init__(self, write: Callable[[dict[str, float], int], Any], close: Callable[[], Any] = lambda: None) -> None:
        self._write = write
        self._close = close

    def write(self, key_values: Mapping[str, Any], key_excluded: Mapping[str, Any], step: int = 0) -> None:
        """Write one row."""
        self._write({key: float(value) for key, value in key_values.items() if isinstance(value, Real)}, step)

    def close(self) -> None:
        """Finish."""
        self._close()


def _tensorboard(folder: Path, step: int) -> _Writer:
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(values: Mapping[str, float], at: int) -> None:
        for name, value in values.items():
            board.add_scalar(name, value, at)
        board.flush()

    return _Writer(write, board.close)


def _wandb(folder: Path, config: RlConfig) -> _Writer:
    wandb = _need("wandb", "--wandb")
    # The same identity continues the same curve.
    run = wandb.init(project=config.wandb, dir=str(folder), name=folder.name, id=_identity(folder), resume="allow")
    return _Writer(lambda values, at: run.log(values, step=at), run.finish)


def _rerun(folder: Path, step: int) -> _Writer:
    rerun = _need("rerun", "--rerun", package="rerun-sdk")
    recording = rerun.RecordingStream("vtt", recording_id=_identity(folder))
    (folder / "rerun").mkdir(exist_ok=True)
    recording.save(str(folder / "rerun" / f"{step:08d}.rrd"))

    def write(values: Mapping[str, float], at: int) -> None:
        recording.set_time("step", sequence=at)
        for name, value in values.items():
            recording.log(name, rerun.Scalars(value))

    return _Writer(write, recording.flush)


def _identity(folder: Path) -> str:
    """Name a run by its folder, without what is no letter or digit."""
    return "-".join("".join(c if c.isalnum() else " " for c in str(folder.resolve())).split())[-100:]


def _need(module: str, option: str, *, package: str = "") -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise DependencyError(
            f"{option} needs the package {package or module}, which is not installed: pip install {package or module}."
        ) from error
