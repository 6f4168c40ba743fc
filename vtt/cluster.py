"""Work spread over a Ray cluster. Scheduling, restarts and retries are Ray's."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from vtt.errors import ConfigError, DependencyError

__all__ = ["Cluster", "spread"]


@dataclass(frozen=True)
class Cluster:
    """Where work is done.

    Attributes:
        address: "auto" for the cluster that runs, "local" for one on this machine, or an address.
        workers: Processes; None takes one for each CPU of the cluster.
    """

    address: str
    workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse what could do nothing."""
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}.")


def spread(
    worker: type[Any], arguments: Sequence[Any], tasks: Sequence[tuple[Any, ...]], cluster: Cluster
) -> Generator[Any]:
    """Do tasks on a Ray cluster, and yield their results in the order of the tasks.

    A worker that dies is restarted, and its task is done again.

    Args:
        worker: Class of the workers, one in each process. Its method `run` does a task, and what comes out depends on
            the task alone.
        arguments: Each worker is made with these.
        tasks: Arguments of `run`, one tuple per task.
        cluster: Where.

    Raises:
        DependencyError: If Ray is not installed.
        ConfigError: If there is no such cluster.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
        from ray.util import ActorPool  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DependencyError("A Ray cluster needs Ray. Run `pip install 'vtt-stack[ray]'`.") from error
    mine = not ray.is_initialized()
    if mine:
        options: dict[str, Any] = (
            {"include_dashboard": False} if cluster.address == "local" else {"address": cluster.address}
        )
        try:
            ray.init(log_to_driver=False, **options)
        except ConnectionError as error:
            raise ConfigError(f"ray must name a cluster that runs, got '{cluster.address}': {error}") from error
    try:
        count = min(len(tasks), cluster.workers or int(ray.cluster_resources().get("CPU", 1)))
        remote = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)(worker)
        pool = ActorPool([remote.remote(*arguments) for _ in range(count)])
        results: Any = pool.map(lambda actor, task: actor.run.remote(*task), list(tasks))
        yield from results
    finally:
        if mine:
            ray.shutdown()
