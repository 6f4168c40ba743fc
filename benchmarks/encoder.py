"""Speed of the demo's encoder, beside the paper's concatenation baseline at the same number of parameters.

One row per measurement. A ratio above 1 says that the transformer is the faster of the two.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vtt.encoders import Encoder, EncoderConfig, SignalSpec, build_encoder, count_parameters

__all__ = ["rows"]

# What the demo's student sees.
_SIGNALS = {
    "tactile_left": SignalSpec("tactile_image", (48, 64, 3), sensor="gelsight_mini"),
    "tactile_right": SignalSpec("tactile_image", (48, 64, 3), sensor="gelsight_mini"),
    "proprioception": SignalSpec("vector", (16,)),
    "goal": SignalSpec("vector", (3,)),
}
_BATCH = 512


def rows() -> list[dict[str, Any]]:
    """Measure.

    Returns:
        Rows of "name", "value", "unit", "peer" (the baseline's value) and "ratio": latency of one observation in ms
        (median) and training samples per second (median), on torch's current number of threads.
    """
    torch.manual_seed(0)
    ours = build_encoder(EncoderConfig(), _SIGNALS)
    size = count_parameters(ours)
    peer = build_encoder(replace(EncoderConfig(), name="concat", match_parameters=size), _SIGNALS)
    print(f"encoder: vtt {size:,} and concat {count_parameters(peer):,} parameters, {torch.get_num_threads()} threads")
    single, batch = _observation(1), _observation(_BATCH)
    latency = [_times(_inference(encoder, single), repeats=300, warmup=30) for encoder in (ours, peer)]
    for name, times in zip(("vtt", "concat"), latency, strict=True):
        p99 = statistics.quantiles(times, n=100)[98]
        print(
            f"encoder: {name} latency at batch 1: p50 {1e3 * statistics.median(times):.2f} ms, p99 {1e3 * p99:.2f} ms"
        )
    p50 = [1e3 * statistics.median(times) for times in latency]
    rate = [_BATCH / statistics.median(_times(_training(encoder, batch), repeats=7)) for encoder in (ours, peer)]
    return [
        {"name": "encoder_latency_b1", "value": p50[0], "unit": "ms", "peer": p50[1], "ratio": p50[1] / p50[0]},
        {"name": "encoder_train", "value": rate[0], "unit": "samples/s", "peer": rate[1], "ratio": rate[0] / rate[1]},
    ]


def _observation(batch: int) -> dict[str, Tensor]:
    """Normalised noise."""
    return {
        key: torch.randn(batch, *signal.shape)
        if signal.kind == "vector"
        else torch.randn(batch, signal.shape[2], *signal.shape[:2])
        for key, signal in _SIGNALS.items()
    }


def _inference(encoder: Encoder, observation: dict[str, Tensor]) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            encoder(observation)

    return run


def _training(encoder: Encoder, observation: dict[str, Tensor]) -> Callable[[], None]:
    def run() -> None:
        encoder.zero_grad(set_to_none=True)
        output = encoder(observation)
        (output.latent.square().mean() + output.align_logit.mean() + output.contact_logit.mean()).backward()

    return run


def _times(run: Callable[[], None], *, repeats: int, warmup: int = 2) -> list[float]:
    """Seconds of each of several calls."""
    for _ in range(warmup):
        run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    for row in rows():
        print(row)
