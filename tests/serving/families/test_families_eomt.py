"""Our computation of EoMT against the library's own: same weights, same answers, same gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import EomtConfig, EomtForUniversalSegmentation

from serving.families.eomt import ATTENTION, Eomt


def pair(**changes: int) -> tuple[EomtForUniversalSegmentation, Eomt]:
    sizes = {"image_size": 64, "patch_size": 16, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}
    config = EomtConfig(**{**sizes, "num_blocks": 2, "num_queries": 7, "num_labels": 3, **changes})
    torch.manual_seed(0)
    theirs = EomtForUniversalSegmentation(config)
    ours = Eomt(config)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def labels() -> dict[str, list[torch.Tensor]]:
    masks = torch.zeros(2, 3, 32, 32)
    masks[0, 0, 2:14, 3:20] = masks[0, 1, 16:30, 5:9] = masks[1, 0, :, :11] = 1
    return {"mask_labels": [masks[0, :2], masks[1, :1]], "class_labels": [torch.tensor([0, 2]), torch.tensor([1])]}


@pytest.mark.parametrize("grad", [False, True], ids=["serving's way", "training's way"])
@pytest.mark.parametrize("share", [0.0, 1.0], ids=["plain", "masked attention"])
@pytest.mark.parametrize("changes", [{}, {"num_blocks": 1}, {"patch_size": 8, "num_upscale_blocks": 1}])
def test_answers_are_the_library_s(grad: bool, share: float, changes: dict[str, int]) -> None:
    theirs, ours = pair(**changes)
    for model in (theirs, ours):
        model.eval().attn_mask_probs.fill_(share)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.set_grad_enabled(grad):
        wanted, got = theirs(pixel_values=pixels), ours(pixel_values=pixels)
    # The library adds 1 to every score it lets through and -1e9 to the others; a constant changes no softmax.
    torch.testing.assert_close(got.masks_queries_logits, wanted.masks_queries_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got.class_queries_logits, wanted.class_queries_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got.last_hidden_state, wanted.last_hidden_state, atol=1e-4, rtol=1e-4)


def test_loss_and_gradients_are_the_library_s(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = pair()
    pixels = torch.randn(2, 3, 64, 64)
    grads = []
    for model in (theirs, ours):
        model.train().attn_mask_probs.fill_(1.0)
        torch.manual_seed(5)  # the loss samples points
        loss = model(pixel_values=pixels, **labels()).loss
        loss.backward()
        grads.append((loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(grads[1][0], grads[0][0], atol=1e-3, rtol=1e-4)
    assert grads[0][1].keys() == grads[1][1].keys()
    for name, wanted in grads[0][1].items():
        torch.testing.assert_close(grads[1][1][name], wanted, atol=2e-3, rtol=2e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_only_what_is_asked_for_is_supervised() -> None:
    _, ours = pair()
    ours.train().attn_mask_probs.zero_()
    pixels = torch.randn(2, 3, 64, 64)
    losses = []
    for blocks in ((), (1,), (0, 1)):
        ours.supervised = blocks
        losses.append(ours(pixel_values=pixels, **labels()).loss.item())
    assert losses[0] < losses[1] < losses[2]


def test_bfloat16_on_a_cpu_stays_close() -> None:
    _, ours = pair()
    ours.eval().attn_mask_probs.zero_()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.enable_grad():
        exact = ours(pixel_values=pixels).masks_queries_logits
        with torch.autocast("cpu", torch.bfloat16):
            rounded = ours(pixel_values=pixels).masks_queries_logits.float()
    assert (exact - rounded).abs().mean() < 0.03 * exact.abs().mean()


def test_files_are_the_library_s(tmp_path: Path) -> None:
    _, ours = pair()
    ours.save_pretrained(tmp_path)
    again = EomtForUniversalSegmentation.from_pretrained(tmp_path)
    assert again.config._attn_implementation != ATTENTION
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
