"""ParcelSeg's attention says the same whichever kernel a CPU is quickest with."""

from __future__ import annotations

import pytest
import torch

from serving.families import parcelseg


@pytest.mark.parametrize("fused", [True, False])
def test_both_ways_in_bfloat16_are_float32s(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcelseg, "fused_bf16", lambda: fused)
    torch.manual_seed(0)
    layer = parcelseg.Attention(64, 4)
    tokens = torch.randn(2, 20, 64)
    with torch.inference_mode():
        wanted = layer(tokens)
        said = layer.to(torch.bfloat16)(tokens.to(torch.bfloat16)).float()
    assert (said - wanted).abs().mean() < 0.02 * wanted.abs().mean()
