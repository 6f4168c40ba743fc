"""A student on disk: what it is made of, weights, normaliser, and the contract of what it must be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vtt import checkpoint
from vtt.encoders import EncoderConfig, SignalSpec, build_encoder
from vtt.errors import ConfigError, StoreError
from vtt.runs import RunFolder
from vtt.streams import StreamSpec
from vtt_policies.config import StudentConfig
from vtt_policies.construction import student_for
from vtt_policies.student import StudentPolicy

__all__ = ["find_checkpoint", "load_student", "save_student"]

_README = """# A student of vtt

Sees {keys}. Load it with `vtt_policies.bundle.load_student`, measure it with `vtt evaluate --policy`.
`observation.json` says what it must be shown; `config.json` holds under `run` how it was trained.
"""


def save_student(
    folder: Path,
    policy: StudentPolicy,
    *,
    specs: Mapping[str, StreamSpec],
    run: Mapping[str, Any],
    training_state: Mapping[str, Any] | None = None,
) -> None:
    """Write a student.

    Args:
        folder: The checkpoint's folder.
        policy: The student.
        specs: What it sees.
        run: How it was trained, JSON-ready.
        training_state: What training needs to go on.
    """
    student = policy.student
    made_of = {
        "network": asdict(student.config),
        "encoder": student.encoder.config.to_dict(),
        # A pretrained encoder may know more than the student sees.
        "signals": {key: asdict(signal) for key, signal in student.encoder.signals.items()},
        "action_dim": student.action_dim,
    }
    checkpoint.save(
        folder,
        model=student,
        config={"student": made_of, "run": dict(run)},
        normalizer=policy.normalizer,
        observation=specs,
        readme=_README.format(keys=", ".join(specs)),
        training_state=training_state,
    )


def load_student(path: Path, *, device: str = "cpu") -> tuple[StudentPolicy, dict[str, StreamSpec]]:
    """Read a student.

    Args:
        path: A checkpoint, or a run, of which the newest checkpoint is read.
        device: Where the student goes.

    Returns:
        The student, and what it expects to see.

    Raises:
        StoreError: If there is no checkpoint, or it is damaged.
        ConfigError: If it is not of a student.
    """
    held = checkpoint.load(find_checkpoint(path), device=device)
    made_of = held.config.get("student")
    if made_of is None:
        raise ConfigError(f"{path} must be a student, got a checkpoint of {', '.join(held.config) or 'nothing'}.")
    signals = {
        key: SignalSpec(**{**signal, "shape": tuple(signal["shape"])}) for key, signal in made_of["signals"].items()
    }
    encoder = build_encoder(EncoderConfig.from_dict(made_of["encoder"]), signals)
    network = StudentConfig(**made_of["network"])
    student = student_for(held.observation, encoder, network=network, action_dim=made_of["action_dim"])
    held.restore(student)
    policy = StudentPolicy(student.to(device), held.normalizer, keys=tuple(held.observation), device=device)
    return policy, held.observation


def find_checkpoint(path: Path) -> Path:
    """Find the checkpoint that a path names: itself, or the newest of a run."""
    if not (path / "config.yaml").exists():
        return path
    last = RunFolder.open(path).last()
    if last is None:
        raise StoreError(f"Run {path} has no checkpoint yet.")
    return last
