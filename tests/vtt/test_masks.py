import pytest
import torch

from vtt.errors import MissingError
from vtt.masks import attention_mask, token_ids
from vtt.tokens import TokenGroup

# align, 2 camera tokens, 1 token of each pad, 1 of the body
GROUPS = (
    TokenGroup("align", "special", 0, 1, (1, 1, 1)),
    TokenGroup("camera_front", "vision", 1, 3, (1, 1, 2)),
    TokenGroup("tactile_left", "touch", 3, 4, (1, 1, 1)),
    TokenGroup("tactile_right", "touch", 4, 5, (1, 1, 1)),
    TokenGroup("goal", "body", 5, 6, (1, 1, 1)),
)


def rows(mask: torch.Tensor | None) -> list[str]:
    assert mask is not None
    return ["".join(".x"[int(allowed)] for allowed in row) for row in mask]


def test_full_needs_no_mask():
    assert attention_mask("full", token_ids(GROUPS)) is None


def test_cross_modal_only_looks_at_the_other_modalities_and_itself():
    assert rows(attention_mask("cross_modal_only", token_ids(GROUPS))) == [
        "xxxxxx",
        "xx.xxx",
        "x.xxxx",
        "xxxx.x",
        "xxx.xx",
        "xxxxxx",
    ]


def test_zorro_keeps_modalities_apart_and_lets_the_special_tokens_see_all():
    assert rows(attention_mask("zorro", token_ids(GROUPS))) == [
        "xxxxxx",
        ".xx...",
        ".xx...",
        "...xx.",
        "...xx.",
        ".....x",
    ]


def test_block_keeps_signals_apart():
    assert rows(attention_mask("block", token_ids(GROUPS))) == [
        "xxxxxx",
        "xxx...",
        "xxx...",
        "x..x..",
        "x...x.",
        "x....x",
    ]


def test_causal_looks_back_only_and_the_special_tokens_stand_at_the_end():
    groups = (TokenGroup("align", "special", 0, 1, (1, 1, 1)), TokenGroup("wrench", "touch", 1, 7, (3, 1, 2)))
    assert rows(attention_mask("causal", token_ids(groups))) == [
        "xxxxxxx",
        ".xx....",
        ".xx....",
        ".xxxx..",
        ".xxxx..",
        "xxxxxxx",
        "xxxxxxx",
    ]


@pytest.mark.parametrize("kind", ["full", "cross_modal_only", "zorro", "causal", "block"])
def test_nobody_attends_to_a_token_that_is_not_there_and_no_row_is_empty(kind):
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[1, 3:5] = False
    mask = attention_mask(kind, token_ids(GROUPS), valid=valid)
    assert mask is not None
    assert mask.shape == (2, 6, 6)
    assert not mask[1, :3, 3:5].any()
    assert not mask[1, 5, 3:5].any()
    assert mask.any(-1).all()
    unmasked = attention_mask(kind, token_ids(GROUPS))
    assert mask[0].all() if unmasked is None else torch.equal(mask[0], unmasked)


def test_a_kept_subset_has_the_mask_of_its_tokens():
    ids = token_ids(GROUPS)
    full = attention_mask("zorro", ids)
    keep = torch.tensor([[0, 2, 4], [0, 1, 5]])
    part = attention_mask("zorro", ids.take(keep))
    assert full is not None
    assert part is not None
    for index, row in zip(keep, part, strict=True):
        assert torch.equal(row, full[index][:, index])


def test_an_unknown_mask_is_named():
    with pytest.raises(MissingError, match=r"No attention mask 'zoro'\. Available: block, causal"):
        attention_mask("zoro", token_ids(GROUPS))  # pyright: ignore[reportArgumentType]
