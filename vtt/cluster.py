"""Work spread over a Ray cluster. Scheduling, restarts and retries are Ray's."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol

from vtt.errors import ConfigError, DependencyError

__all__ = ["Worker", "spread"]


class Worker(Protocol):
    """What does the work: made once in each process of the cluster, then given tasks."""

    def run(self, *task: Any) -> Any:
        """Do one task; what comes out depends on the task alone."""
        ...


def spread(
    worker: type[Any], arguments: Sequence[Any], tasks: Sequence[tuple[Any, ...]], *, address: str, workers: int | None
) -> Generator[Any]:
    """Do tasks on a Ray cluster, and yield their results in the order of the tasks.

    A worker that dies is restarted, and its task is done again.

    Args:
        worker: Class of the workers, see `Worker`.
        arguments: Each worker is made with these.
        tasks: Arguments of `run`, one tuple per task.
        address: "auto" for the cluster that runs, "local" for one on this machine, or an address.
        workers: Processes; None takes one for each CPU of the cluster.

    Raises:
        DependencyError: If Ray is not installed.
        ConfigError: If there is no such cluster, or `workers` is not positive.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}.")
    try:
        import ray  # pyright: ignore[reportMissingImports]
        from ray.util import ActorPool  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DependencyError("A Ray cluster needs Ray. Run `pip install 'vtt-stack[ray]'`.") from error
    mine = not ray.is_initialized()
    if mine:
        options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {"address": address}
        try:
            ray.init(log_to_driver=False, **options)
        except ConnectionError as error:
            raise ConfigError(f"ray must name a cluster that runs, got '{address}': {error}") from error
    try:
        count = min(len(tasks), workers or int(ray.cluster_resources().get("CPU", 1)))
        remote = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)(worker)
        pool = ActorPool([remote.remote(*arguments) for _ in range(count)])
        results: Any = pool.map(lambda actor, task: actor.run.remote(*task), list(tasks))
        yield from results
    finally:
        if mine:
            ray.shutdown()
