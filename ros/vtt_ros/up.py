"""Run the whole graph with a simulated robot, episode after episode."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtt.errors import StateError
from vtt_policies.deploy.contract import read_contract
from vtt_ros.gate.config import SIMULATED
from vtt_ros.graph import Child, Graph
from vtt_ros.observations import topic_of

__all__ = ["Trial", "run_sim"]

_START = 60.0
# Above what one episode takes, in s: horizon 50 to 100 steps of 50 ms, and arming.
_EPISODE = 30.0


@dataclass(frozen=True)
class Trial:
    """One episode through the graph.

    Attributes:
        seed: Its seed.
        success: Whether it succeeded.
        steps: Control steps.
        fault: What the gate said if it stopped the robot; empty if it did not.
    """

    seed: int
    success: bool
    steps: int
    fault: str


def run_sim(
    bundle: Path,
    *,
    env: str,
    env_args: Sequence[str],
    episodes: int,
    first_seed: int,
    domain: int,
    backend: str = "torch",
    progress: Callable[[], object] | None = None,
) -> tuple[list[Trial], dict[str, str]]:
    """Start simulated robot, gate, policy and operator as processes, and run episodes.

    Args:
        bundle: Bundle of the policy.
        env: Gymnasium id with its module.
        env_args: Further options of the environment, each key=value.
        episodes: How many.
        first_seed: Seed of the first; they count up.
        domain: ROS_DOMAIN_ID, 0 to 232.
        backend: torch or onnx.
        progress: Called after each episode.

    Returns:
        The episodes, and what the policy's diagnostics said last.

    Raises:
        StateError: If a process ends or the gate never arms; says why.
    """
    contract = read_contract(bundle)
    specs = contract.observation
    images = [topic_of(key, spec) for key, spec in specs.items() if spec.kind in ("image", "tactile_image")]
    rate = max(spec.rate_hz for spec in specs.values())
    with Graph(domain=domain) as graph:
        graph.start(
            "sim_robot",
            "vtt_ros.sim_robot",
            parameters={
                "env": env,
                "observation": ",".join(specs),
                "first_seed": first_seed,
                **({"env_args": list(env_args)} if env_args else {}),
            },
        )
        graph.start("gate", "vtt_ros.gate.node", parameters={**SIMULATED, **({"images": images} if images else {})})
        policy = {"bundle": str(bundle), "rate": float(rate), "backend": backend}
        graph.start("policy", "vtt_ros.policy_node", parameters=policy)
        operator = graph.start("operator", "vtt_ros.operator")
        trials = []
        for index in range(episodes):
            if index:
                operator.ask("disarm", timeout=_START)
                operator.ask("episode", timeout=_START)
            trials.append(_episode(graph, operator, first_seed + index))
            if progress:
                progress()
        said = [event for event in operator.events if event.get("node", "").endswith("policy")]
        return trials, said[-1] if said else {}


def _episode(graph: Graph, operator: Child, seed: int) -> Trial:
    """Arm, and wait for the end of the episode or for a fault."""
    _arm(graph, operator)
    event = operator.wait_for(
        lambda e: e.get("seed") == seed or e.get("state") == "fault", timeout=_EPISODE, what=f"episode {seed}"
    )
    if "seed" in event:
        return Trial(seed, event["success"], event["steps"], "")
    return Trial(seed, False, 0, event["text"])


def _arm(graph: Graph, operator: Child) -> None:
    """Reset and arm until the gate agrees."""
    deadline = time.monotonic() + _START
    while True:
        operator.ask("reset", timeout=_START)
        answer = operator.ask("arm", timeout=_START)
        if answer["ok"]:
            return
        for name in ("sim_robot", "gate", "policy"):
            child = graph[name]
            if child.process.poll() is not None:
                raise StateError(f"{name} must keep running, it ended: {' '.join(child.output[-3:])}")
        if time.monotonic() > deadline:
            raise StateError(f"The gate must arm within {_START:g} s, it says: {answer['text']}.")
        time.sleep(0.2)
