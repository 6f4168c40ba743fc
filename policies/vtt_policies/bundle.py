"""A learned policy on disk: its kind, what it is made of, weights, normaliser, and what it must be shown."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from vtt import checkpoint
from vtt.errors import ConfigError, StoreError, missing
from vtt.runs import RunFolder
from vtt.streams import StreamSpec
from vtt_policies.policy import Deployable

__all__ = ["KINDS", "find_checkpoint", "load_as", "load_policy", "policy_class", "save_policy"]

KINDS: Mapping[str, str] = {
    "student": "vtt_policies.student:StudentPolicy",
    "actor": "vtt_policies.rl.actor:ActorPolicy",
    "act": "vtt_policies.chunking.policy:ActPolicy",
    "diffusion": "vtt_policies.chunking.policy:DiffusionPolicy",
    "slac": "vtt_policies.slac.policy:SlacPolicy",
}
"""Class of each kind of policy, imported when a checkpoint asks for it."""

_P = TypeVar("_P", bound=Deployable)

_README = """# A policy of vtt: {kind}

Sees {keys}. Load it with `vtt_policies.bundle.load_policy`, measure it with `vtt evaluate --policy`, take it to a robot
with `vtt export`. `observation.json` says what it must be shown; `config.json` holds under `run` how it was trained.
"""


def save_policy(
    folder: Path,
    policy: Deployable,
    *,
    specs: Mapping[str, StreamSpec],
    run: Mapping[str, Any],
    training_state: Mapping[str, Any] | None = None,
) -> None:
    """Write a policy.

    Args:
        folder: The checkpoint's folder.
        policy: The policy.
        specs: What it sees, in the order of its keys.
        run: How it was trained, JSON-ready.
        training_state: What training needs to go on.
    """
    if tuple(specs) != policy.keys:
        raise ConfigError(f"specs must be of what the policy sees ({', '.join(policy.keys)}), got {', '.join(specs)}.")
    checkpoint.save(
        folder,
        model=policy.network,
        config={"kind": policy.kind, "made_of": policy.made_of(), "run": dict(run)},
        normalizer=policy.normalizer,
        observation=specs,
        readme=_README.format(kind=policy.kind, keys=", ".join(specs)),
        training_state=training_state,
    )


def load_policy(path: Path, *, device: str = "cpu") -> tuple[Deployable, dict[str, StreamSpec]]:
    """Read a policy.

    Args:
        path: A checkpoint, or a run, of which the newest checkpoint is read.
        device: Where the policy goes.

    Returns:
        The policy, and what it expects to see.

    Raises:
        StoreError: If there is no checkpoint, or it is damaged.
        ConfigError: If it is not of a policy.
        MissingError: If its kind is not known.
    """
    held = checkpoint.load(find_checkpoint(path), device=device)
    config = held.config
    if "student" in config:  # as written before there were other kinds
        config = {"kind": "student", "made_of": config["student"]}
    if "kind" not in config:
        raise ConfigError(f"{path} must be a policy, got a checkpoint of {', '.join(held.config) or 'nothing'}.")
    policy = policy_class(config["kind"]).build(config["made_of"], held.observation, held.normalizer, device=device)
    held.restore(policy.network)
    return policy, held.observation


def load_as(cls: type[_P], path: Path, *, device: str = "cpu") -> tuple[_P, dict[str, StreamSpec]]:
    """Read a policy that must be of one class; see `load_policy`."""
    policy, specs = load_policy(path, device=device)
    if not isinstance(policy, cls):
        raise ConfigError(f"{path} must be of kind {cls.kind}, got {policy.kind}.")
    return policy, specs


def policy_class(kind: str) -> type[Deployable]:
    """Import the class of a kind of policy."""
    if kind not in KINDS:
        raise missing("kind of policy", kind, KINDS)
    module, name = KINDS[kind].split(":")
    return getattr(import_module(module), name)


def find_checkpoint(path: Path) -> Path:
    """Find the checkpoint that a path names: itself, or the newest of a run."""
    if not (path / "config.yaml").exists():
        return path
    last = RunFolder.open(path).last()
    if last is None:
        raise StoreError(f"Run {path} has no checkpoint yet.")
    return last
