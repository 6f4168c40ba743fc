"""What a pretrained encoder knows, measured on held-out episodes, each number beside what chance scores.

Axes: N frames · C contacts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from vtt.encoders import Encoder, VttEncoder
from vtt.objectives import Objective, mismatch
from vtt.pretrain_data import PretrainData

__all__ = ["area_under_curve", "balanced_accuracy", "chance", "validate"]

_CONTACTS = ("left", "right", "object")
# Of the variance in training: below it the held-out signal stands still, and relative errors say nothing.
_FLOOR = 0.01


def chance(metric: str) -> float:
    """What an encoder scores that knows nothing: 1 for a relative error, .5 for an accuracy or area."""
    return 1.0 if metric.startswith(("reconstruction", "summary")) else 0.5


@torch.no_grad()
def validate(
    encoder: Encoder,
    objective: Objective,
    data: PretrainData,
    *,
    batch_size: int = 256,
    max_frames: int = 2048,
    seed: int = 0,
) -> dict[str, float]:
    """Measure an encoder.

    Args:
        encoder: The encoder; is left in the mode it was in.
        objective: Its heads.
        data: Its held-out part is used.
        batch_size: Frames at once.
        max_frames: Frames used, evenly spread.
        seed: Of masks and negatives, so that two calls agree.

    Returns:
        By name: `reconstruction_<key>` and `summary_<key>`, squared error over that of predicting the training mean
        on the same frames (chance 1; of a signal that hardly varies, over a floor); `contact_auc_<contact>` and
        `contact_accuracy_<contact>`, the balanced accuracy (chance .5), for contacts seen both ways;
        `align_accuracy_other_episode` and `align_accuracy_other_time`, balanced between matched and mismatched pairs
        (chance .5), and `align_auc`.
    """
    training = encoder.training
    encoder.eval()
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    frames, negatives = data.held_out
    index = np.unique(np.linspace(0, len(frames.episode) - 1, max_frames).astype(np.int64))
    sums: dict[str, float] = {}
    baseline: dict[str, float] = {}
    contact: list[tuple[NDArray, NDArray]] = []
    matched: list[NDArray] = []
    apart: list[NDArray] = []
    hard: list[NDArray] = []
    for part in _chunks(index, batch_size):
        batch = data.batch(data.held_out, part)
        output = encoder(batch.observation)
        contact.append((output.contact_logit.float().cpu().numpy(), batch.contact.cpu().numpy()))
        matched.append(output.align_logit.float().cpu().numpy())
        errors = {f"summary_{k}": e for k, e in objective.summary_errors(output.latent, batch.observation).items()}
        if objective.pixels is not None and isinstance(encoder, VttEncoder):
            _, hidden = objective.reconstruct(encoder, batch.observation, generator=generator)
            errors |= {f"reconstruction_{key}": error for key, error in hidden.items()}
        for total, scores in ((sums, errors), (baseline, objective.baseline(batch.observation))):
            for name, error in scores.items():
                total[name] = total.get(name, 0.0) + float(error) * len(part) / len(index)
        if negatives is not None:
            drawn = negatives.draw(part, rng)
            mixed = mismatch(data.batch(data.held_out, part, partner=drawn.partner))
            apart.append(encoder(mixed).align_logit.float().cpu().numpy())
            hard.append(drawn.hard)
    encoder.train(training)
    metrics = {name: error / max(baseline[name], _FLOOR) for name, error in sorted(sums.items())}
    logits, labels = (np.concatenate(parts) for parts in zip(*contact, strict=True))
    if "contact" in objective.weights:
        for i in range(logits.shape[1]):
            name = _CONTACTS[i] if logits.shape[1] == len(_CONTACTS) else str(i)
            if 0 < labels[:, i].mean() < 1:
                metrics[f"contact_auc_{name}"] = area_under_curve(logits[:, i], labels[:, i] > 0.5)
                metrics[f"contact_accuracy_{name}"] = balanced_accuracy(logits[:, i] > 0, labels[:, i] > 0.5)
    if negatives is not None:
        yes, no, same_episode = np.concatenate(matched), np.concatenate(apart), np.concatenate(hard)
        for name, chosen in (("other_episode", no[~same_episode]), ("other_time", no[same_episode])):
            if len(chosen):
                metrics[f"align_accuracy_{name}"] = float(0.5 * ((yes > 0).mean() + (chosen <= 0).mean()))
        scores = np.concatenate([yes, no])
        metrics["align_auc"] = area_under_curve(scores, np.arange(len(scores)) < len(yes))
    return metrics


def area_under_curve(score: NDArray[np.floating], label: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half.

    Example:
        >>> area_under_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        0.75
    """
    values, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    del values
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # mean rank of ties, from 1
    positives, negatives = int(label.sum()), int((~label).sum())
    # Mann-Whitney U
    return float((ranks[label].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def balanced_accuracy(predicted: NDArray[np.bool_], label: NDArray[np.bool_]) -> float:
    """Mean of the accuracies on positives and on negatives.

    Example:
        >>> balanced_accuracy(np.array([True, True, True, True]), np.array([True, True, True, False]))
        0.5
    """
    return float(0.5 * (predicted[label].mean() + (~predicted[~label]).mean()))


def _chunks(index: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Cut into parts."""
    for start in range(0, len(index), size):
        yield index[start : start + size]
