"""The patches that tokens are made of."""

import pytest
import torch

from kvtp.backbone._pool import pool_patches, taps


@pytest.mark.parametrize("pool", ["bilinear", "average"])
@pytest.mark.parametrize("side", [4, 7, 27])
def test_taps_are_the_pooling(pool: str, side: int) -> None:
    """Weighted sums of them are what pooling the whole grid gives, at even and odd sides."""
    values = torch.randn(2, side * side, 3, generator=torch.Generator().manual_seed(0))
    patch, weight = taps(side * side, pool)
    pooled = (values[:, patch] * weight[..., None]).sum(-2)
    torch.testing.assert_close(pooled, pool_patches(values, pool), atol=1e-6, rtol=1e-5)
    assert patch.shape[1] <= 4
