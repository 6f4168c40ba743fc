import pytest
import torch

from vtt.errors import ConfigError
from vtt.trunk import Block, Trunk, attend


@pytest.mark.parametrize("masked", [False, True])
def test_the_explicit_softmax_equals_the_fused_path(masked):
    torch.manual_seed(0)
    trunk = Trunk(32, 3, 4)
    x = torch.randn(4, 11, 32)
    mask = (torch.rand(4, 11, 11) > 0.5) | torch.eye(11, dtype=torch.bool) if masked else None
    fused, none = trunk(x, mask=mask)
    explicit, attention = trunk(x, mask=mask, return_attention=True)
    assert none is None
    assert len(attention) == 3
    torch.testing.assert_close(fused, explicit, atol=1e-5, rtol=0)


def test_attention_rows_sum_to_one_and_are_zero_where_masked():
    q, k, v = torch.randn(3, 2, 4, 7, 8).unbind(0)
    mask = (torch.rand(7, 7) > 0.5) | torch.eye(7, dtype=torch.bool)
    _, attention = attend(q, k, v, mask=mask, return_attention=True)
    assert attention is not None
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 4, 7))
    assert (attention.masked_select(~mask) == 0).all()


def test_a_masked_token_changes_no_other():
    trunk = Trunk(32, 2, 4)
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[:4, 4] = False
    x = torch.randn(2, 5, 32)
    changed = x.clone()
    changed[:, 4] += 1
    assert torch.equal(trunk(x, mask=mask)[0][:, :4], trunk(changed, mask=mask)[0][:, :4])


def test_a_permutation_of_tokens_permutes_the_result():
    trunk = Trunk(32, 2, 4)
    x, order = torch.randn(2, 9, 32), torch.randperm(9)
    torch.testing.assert_close(trunk(x)[0][:, order], trunk(x[:, order])[0], atol=1e-5, rtol=1e-5)


def test_bfloat16_on_the_cpu_stays_near_float32_forward_and_backward():
    torch.manual_seed(0)
    trunk, x = Trunk(32, 2, 4), torch.randn(4, 9, 32)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = trunk(x)
    y.float().square().sum().backward()
    torch.testing.assert_close(y.float(), trunk(x)[0], atol=0.1, rtol=0)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trunk.parameters())


def test_a_block_of_the_paper_has_its_number_of_parameters():
    assert sum(p.numel() for p in Block(384, 8).parameters()) == 1_773_312


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="embed_dim must be divisible by num_heads, got 32 and 5"):
        Block(32, 5)
