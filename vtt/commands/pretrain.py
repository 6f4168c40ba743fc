"""`vtt pretrain`: an encoder learns from recorded episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vtt.cli import parse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vtt.store import EpisodeStore

__all__ = ["Pretrain", "main"]


@dataclass(frozen=True)
class Pretrain:
    """Pretrain an encoder on recorded episodes: masked reconstruction, contact, alignment of touch and the rest.

    Attributes:
        data: Episode store.
        out: Run folder. An interrupted run there continues.
        encoder: The visuo-tactile transformer or one of its baselines.
        preset: Size of the encoder.
        match_parameters: Widen a baseline to within 5 % of this many parameters.
        keys: Observation keys it sees; by default cameras, tactile images, wrench, proprioception and goal.
        rest: Folder with the pictures of the untouched gels, `<key>.png`; by default the store's own
            `rest_images`. Where there are none, the mean image stands in.
        steps: Optimiser steps; with `seconds` alone, as many as fit.
        seconds: Wall time after which training stops, in s.
        batch_size: Frames per step.
        learning_rate: Peak step size; by default what suits the encoder's width.
        reconstruction: Weight of the hidden tokens' reconstruction; 0 leaves it out, as the baselines must.
        summary: Weight of the latent's reconstruction.
        contact: Weight of the contact verdict.
        align: Weight of the alignment verdict.
        gradient_norms: Also log the gradient norm of each loss on the trunk.
        precision: bfloat16 is faster where the processor has it.
        seed: Seed of everything random.
        device: Torch device.
    """

    data: Path
    out: Path
    encoder: Literal["vtt", "concat", "poe"] = "vtt"
    preset: Literal["demo", "small", "paper"] = "demo"
    match_parameters: int | None = None
    keys: tuple[str, ...] = ()
    rest: Path | None = None
    steps: int | None = None
    seconds: float | None = None
    batch_size: int = 128
    learning_rate: float | None = None
    reconstruction: float | None = None
    summary: float = 1.0
    contact: float = 0.3
    align: float = 0.3
    gradient_norms: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    device: str = "cpu"


def main(argv: Sequence[str]) -> None:
    """Pretrain an encoder on recorded episodes."""
    command = parse(Pretrain, argv, prog="vtt pretrain")

    from dataclasses import replace

    from vtt.encoders import EncoderConfig
    from vtt.objectives import ObjectiveConfig
    from vtt.pretrain import PretrainConfig, pretrain
    from vtt.store import EpisodeStore
    from vtt.validation import chance

    store = EpisodeStore.open(command.data)
    contacts = store.streams["contact"].shape if "contact" in store.streams else ()
    encoder = replace(
        EncoderConfig.preset(command.preset),
        name=command.encoder,
        match_parameters=command.match_parameters,
        num_contacts=contacts[0] if contacts else 3,
    )
    # Hidden tokens need tokens.
    reconstruction = float(command.encoder == "vtt") if command.reconstruction is None else command.reconstruction
    config = PretrainConfig(
        encoder=encoder,
        objective=ObjectiveConfig(reconstruction, command.summary, command.contact, command.align),
        keys=command.keys,
        steps=2000 if command.steps is None and command.seconds is None else command.steps,
        seconds=command.seconds,
        batch_size=command.batch_size,
        learning_rate=command.learning_rate,
        gradient_norms=command.gradient_norms,
        precision=command.precision,
        seed=command.seed,
        device=command.device,
    )
    print(f"Run folder: {command.out}")
    scores = pretrain(
        store, config, command.out, rest_images=_rest_images(command.rest or _own_rest_images(command.data), store)
    )
    width = max(len(name) for name in scores)
    print(f"{'on held-out episodes':{width}}   value  chance")
    for name, value in scores.items():
        print(f"{name:{width}}  {value:6.3f}  {chance(name):6.1f}")


def _own_rest_images(data: Path) -> Path | None:
    """Find the pictures that `vtt collect` put beside the streams."""
    folder = data / "rest_images"
    return folder if folder.is_dir() else None


def _rest_images(folder: Path | None, store: EpisodeStore) -> dict[str, NDArray[np.uint8]]:
    """Read the pictures of the untouched gels that exist in a folder."""
    if folder is None:
        return {}
    import cv2
    import numpy as np

    from vtt.errors import StoreError

    images: dict[str, NDArray[np.uint8]] = {}
    for key in store.streams:
        path = folder / f"{key}.png"
        if path.exists():
            image = cv2.imread(str(path))
            if image is None:
                raise StoreError(f"{path} is no image that can be read.")
            images[key] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)
    if not images:
        raise StoreError(f"{folder} must hold pictures named after tactile streams, such as tactile_left.png.")
    return images
