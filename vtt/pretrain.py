"""Pretraining: an encoder learns from recorded episodes what touch and vision say about each other."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from vtt.checkpoint import load, load_training_state
from vtt.encoders import EncoderConfig, VttEncoder, build_encoder, count_parameters, signal_specs
from vtt.errors import ConfigError, StateError, missing
from vtt.objectives import Objective, ObjectiveConfig, Statistics, gradient_norms, summarise
from vtt.pretrain_data import PretrainData
from vtt.pretrained import load_encoder, save_encoder
from vtt.runs import RunFolder
from vtt.store import EpisodeStore
from vtt.validation import chance, validate

__all__ = ["PretrainConfig", "default_keys", "load_encoder", "pretrain"]

# What is seen and felt, and where the hand is. Never `privileged`: it exists in simulation only.
_KEYS = ("camera_", "tactile_", "wrench", "proprioception", "goal")
_STATISTICS_FRAMES = 2048  # enough for means and variances, which only set the scale of the losses
# What a run may be continued with, changed.
_BUDGET = ("steps", "seconds", "device", "log_every", "checkpoint_every", "gradient_norms")


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of pretraining.

    Attributes:
        encoder: What is trained.
        objective: What for.
        keys: Observation keys it sees; empty takes `default_keys`.
        steps: Optimiser steps; None trains until `seconds`.
        seconds: Wall time in s, over all interruptions; None trains until `steps`. With it, results depend on the
            machine's speed.
        batch_size: Frames per step; half of them are judged with the touch of another moment.
        learning_rate: Peak step size of AdamW; None takes 0.2 / `embed_dim`, at most 0.003.
        weight_decay: Of AdamW, on matrices.
        warmup: Steps of linear warm-up, after which the step size falls as a cosine to 0.
        held_out: Share of episodes kept for validation.
        min_gap_s: Least time between the moments of a mismatched pair of one episode, in s.
        hard_fraction: Share of mismatched pairs from one episode.
        log_every: Steps between rows of metrics.csv.
        checkpoint_every: Steps between checkpoints, each with a validation.
        gradient_norms: Also log the norm of each weighted loss's gradient on the trunk.
        precision: "bfloat16" is faster where the processor has it and slower where not.
        seed: Of everything.
        device: Torch device.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    keys: tuple[str, ...] = ()
    steps: int | None = 2000
    seconds: float | None = None
    batch_size: int = 128
    learning_rate: float | None = None
    weight_decay: float = 0.05
    warmup: int = 50
    held_out: float = 0.1
    min_gap_s: float = 0.5
    hard_fraction: float = 0.5
    log_every: int = 20
    checkpoint_every: int = 500
    gradient_norms: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse settings that cannot work before anything is read."""
        if self.steps is None and self.seconds is None:
            raise ConfigError("steps or seconds must be given, got neither.")
        for name in ("steps", "seconds", "log_every", "checkpoint_every", "learning_rate"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} must be positive, got {value}.")
        if self.batch_size < 2:
            raise ConfigError(f"batch_size must be at least 2, got {self.batch_size}.")
        if self.encoder.window != 1:
            raise ConfigError(f"encoder.window must be 1 to train on frames, got {self.encoder.window}.")

    @property
    def peak_rate(self) -> float:
        """Peak step size: falls with the width (muP, arXiv 2203.03466), found for the demo's encoder."""
        return min(3e-3, 0.2 / self.encoder.embed_dim) if self.learning_rate is None else self.learning_rate

    def progress(self, step: int, seconds: float) -> float:
        """Share of the budget that is spent."""
        return max(step / self.steps if self.steps else 0.0, seconds / self.seconds if self.seconds else 0.0)


def default_keys(store: EpisodeStore) -> tuple[str, ...]:
    """The store's cameras, tactile images, wrench, proprioception and goal."""
    return tuple(key for key in store.streams if key.startswith(_KEYS))


def pretrain(
    store: EpisodeStore,
    config: PretrainConfig,
    run_folder: str | Path,
    *,
    rest_images: Mapping[str, NDArray[np.uint8]] | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Pretrain an encoder on a store, or continue where an interrupted run stopped.

    On the CPU with `steps`, a continued run ends with the weights of an uninterrupted one, bit by bit.

    Args:
        store: Recorded episodes; needs a stream `contact` (T, C) unless that objective's weight is 0.
        config: Settings.
        run_folder: New, or of an earlier call with the same settings. `load_encoder(run_folder)` reads the result.
        rest_images: Pictures of the untouched gels by key, uint8 (H, W, 3); the mean image stands in.
        progress: Show a progress bar.

    Returns:
        Metrics on held-out episodes, see `vtt.validation.validate`.

    Raises:
        ConfigError: If the settings do not fit the store, or a run with other settings is in the folder.
    """
    config = dataclasses.replace(config, keys=config.keys or default_keys(store))
    weights = config.objective.weights()
    if weights["contact"] > 0:
        if "contact" not in store.streams:
            raise missing("stream", "contact", store.streams)
        labels = math.prod(store.streams["contact"].shape)
        if labels != config.encoder.num_contacts:
            raise ConfigError(
                f"encoder.num_contacts must be the {labels} of the store's contacts, got {config.encoder.num_contacts}."
            )
    run = _open_run(Path(run_folder), config)
    data = PretrainData(
        store,
        config.keys,
        held_out=config.held_out,
        seed=config.seed,
        contact=weights["contact"] > 0,
        align=weights["align"] > 0,
        min_gap_s=config.min_gap_s,
        hard_fraction=config.hard_fraction,
        rest_images=rest_images,
        device=config.device,
    )
    trainer = _Trainer(config, data)
    step, elapsed = trainer.resume(run)
    metrics = run.metrics(through_step=step)
    begin = time.monotonic() - elapsed
    bar = tqdm(total=config.steps, initial=step, desc="pretrain", unit="step", disable=not progress)
    scores: dict[str, float] = {}
    spent = config.progress(step, elapsed)
    with bar:
        while spent < 1:
            logged = (step + 1) % config.log_every == 0
            values = trainer.step(step, spent, gradient_norms_wanted=logged and config.gradient_norms)
            step += 1
            seconds = time.monotonic() - begin
            spent = config.progress(step, seconds)
            bar.update()
            if logged:
                metrics.add(step, {**values, "seconds": seconds})
                bar.set_postfix({name: f"{values[name]:.3f}" for name in trainer.objective.weights})
            if spent >= 1 or step % config.checkpoint_every == 0:
                scores = validate(trainer.encoder, trainer.objective, data, seed=config.seed)
                trainer.save(run, step, time.monotonic() - begin, scores)
                metrics.add(step, {f"validation/{name}": value for name, value in scores.items()})
                run.set_last(step)
    return scores or validate(trainer.encoder, trainer.objective, data, seed=config.seed)


class _Trainer:
    """Encoder, heads and optimiser."""

    def __init__(self, config: PretrainConfig, data: PretrainData) -> None:
        self.config, self.data = config, data
        frames = data.train.frames.episode
        index = np.unique(np.linspace(0, len(frames) - 1, _STATISTICS_FRAMES).astype(np.int64))
        some = data.batch(data.train, index).observation
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            encoder = build_encoder(config.encoder, signal_specs(data.observation, config.keys))
            statistics, coarse = Statistics.of(some), Statistics.of(summarise(some))
            objective = Objective(encoder, config.objective, statistics=statistics, coarse=coarse)
        self.encoder, self.objective = encoder.to(config.device), objective.to(config.device)
        named = [*self.encoder.named_parameters(), *self.objective.named_parameters()]
        decayed = [parameter for name, parameter in named if parameter.ndim > 1 and name.endswith("weight")]
        others = [parameter for name, parameter in named if parameter.ndim <= 1 or not name.endswith("weight")]
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.peak_rate, weight_decay=config.weight_decay)
        self._parameters = decayed + others

    def step(self, step: int, spent: float, *, gradient_norms_wanted: bool) -> dict[str, float]:
        """Take one optimiser step for all losses; returns their values.

        All randomness comes from seed and step, so that a resumed run repeats it.
        """
        rng = np.random.default_rng((self.config.seed, step))
        batch = self.data.sample(self.config.batch_size, rng)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        rate = self.config.peak_rate * _rate(step, spent, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.encoder.train()
        cast = contextlib.nullcontext()
        if self.config.precision == "bfloat16":
            cast = torch.autocast(torch.device(self.config.device).type, torch.bfloat16)
        with cast:
            losses = self.objective(self.encoder, batch, generator=generator)
        total = self.objective.total(losses)
        values = {name: float(loss.detach()) for name, loss in losses.items()} | {"learning_rate": rate}
        if not math.isfinite(float(total.detach())):
            raise StateError(f"The losses must stay finite, got {values} at step {step}. Lower learning_rate.")
        if gradient_norms_wanted:
            shared = self.encoder.trunk if isinstance(self.encoder, VttEncoder) else self.encoder.branches
            weighted = {name: self.objective.weights[name] * loss for name, loss in losses.items()}
            norms = gradient_norms(weighted, shared.parameters())
            values |= {f"gradient/{name}": norm for name, norm in norms.items()}
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self.optimizer.step()
        return values

    def save(self, run: RunFolder, step: int, seconds: float, scores: Mapping[str, float]) -> None:
        """Write a checkpoint."""
        state: dict[str, Any] = {
            "step": step,
            "seconds": seconds,
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_encoder(
            run.checkpoint(step),
            self.encoder,
            normalizer=self.data.normalizer,
            observation=self.data.observation,
            readme=self._readme(step, scores),
            training_state=state,
        )

    def resume(self, run: RunFolder) -> tuple[int, float]:
        """Continue from the newest checkpoint, if any; returns its step and seconds."""
        last = run.last()
        if last is None:
            return 0, 0.0
        load(last).restore(self.encoder)
        state = load_training_state(last)
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        return state["step"], state["seconds"]

    def _readme(self, step: int, scores: Mapping[str, float]) -> str:
        """Say what the checkpoint is."""
        lines = [f"| {name} | {value:.3f} | {chance(name)} |" for name, value in scores.items()]
        size = f"{count_parameters(self.encoder):,} parameters, {step} steps, seed {self.config.seed}"
        return "\n".join(
            [
                f"# Encoder `{self.config.encoder.name}`",
                "",
                f"{size}. Sees {', '.join(self.config.keys)}.",
                "Load it with `vtt.pretrained.load_encoder`.",
                "",
                "| on held-out episodes | value | chance |",
                "|---|---|---|",
                *lines,
                "",
            ]
        )


def _rate(step: int, spent: float, warmup: int) -> float:
    """Step size relative to its peak: linear warm-up, then a cosine to 0."""
    return min(1.0, (step + 1) / max(1, warmup)) * 0.5 * (1 + math.cos(math.pi * min(1.0, spent)))


def _open_run(path: Path, config: PretrainConfig) -> RunFolder:
    """Begin a run, or open the one that is there if its settings are the same."""
    if not (path / "config.yaml").exists():
        return RunFolder.create(path, config=dataclasses.asdict(config), seed=config.seed)
    run = RunFolder.open(path)
    there, here = run.config, json.loads(json.dumps(dataclasses.asdict(config)))
    differing = [name for name in here if name not in _BUDGET and here[name] != there.get(name)]
    if differing:
        told = "; ".join(f"{name} {there.get(name)} (now {here[name]})" for name in differing)
        raise ConfigError(f"{path} holds a run with other settings: {told}. Choose another folder.")
    return run
