"""EoMT computed for speed: the same weights and the same answers as `transformers`' own class, in less time.

What differs is the order of the work. Pictures stay channels-last, so that a transposed convolution of stride two is
one matrix product and norms run over contiguous memory; on a CPU, attention under autocast is two matrix products,
which is a good deal faster than the fused kernel there; and while training only the predictions that are asked for are
made. Without gradients the library's own order is taken, which is then the quicker one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import EomtConfig, EomtForUniversalSegmentation
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.eomt.modeling_eomt import EomtForUniversalSegmentationOutput

from serving.families.types import InstanceModel, Prediction

ATTENTION = "parcelhub"
MASKED = -1e9


def attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention for [B, heads, tokens, d]; `attention_mask` is added to the scores, or None."""
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        with torch.autocast("cpu", enabled=False):
            scores = torch.matmul(query * scale, key.transpose(-1, -2))
            if attention_mask is not None:
                scores = scores + attention_mask.to(scores.dtype)
            mixed = torch.matmul(scores.softmax(-1), value)
    else:
        mask = attention_mask.to(query.dtype) if attention_mask is not None else None
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    return mixed.transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attention)


class Eomt(EomtForUniversalSegmentation, InstanceModel):  # type: ignore[misc]  # untyped in the library
    """`EomtForUniversalSegmentation` with the forward pass described above.

    `supervised` names the query blocks (0 is the first) before which a prediction is made and learnt from while the
    module is in training mode; the last prediction always is. Blocks whose `attn_mask_probs` is above zero need their
    prediction for masked attention and have it in any mode.
    """

    adapter_targets = (
        r"layers\.\d+\.(attention\.(q_proj|k_proj|v_proj|out_proj)|mlp\.fc[12])|mask_head\.fc[123]|class_predictor"
    )

    def __init__(self, config: EomtConfig) -> None:
        super().__init__(config)
        self.config._attn_implementation = ATTENTION
        self.supervised: tuple[int, ...] = tuple(range(config.num_blocks))

    def answer(self, pixel_values: Tensor) -> Prediction:
        """Predict on normalised pictures float [B, 3, S, S]."""
        # While training anneals its masked attention, the probabilities lie between 0 and 1 and the network draws
        # random numbers in each forward pass. The same frame must get the same answer twice.
        self.attn_mask_probs.round_()
        output = self(pixel_values=pixel_values)
        scores = output.class_queries_logits.float().softmax(-1)[..., :-1]
        return Prediction(output.masks_queries_logits.float(), scores)

    def features(self, pixel_values: Tensor) -> Tensor:
        """What the encoder alone makes of a picture, without queries: normalised patch tokens [B, patches, width]."""
        hidden = self.embeddings(pixel_values)
        for layer in self.layers:
            hidden = layer(hidden, None)
        normal: Tensor = self.layernorm(hidden)
        return normal[:, self.embeddings.num_prefix_tokens :]

    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: list[Tensor] | None = None,
        class_labels: list[Tensor] | None = None,
        **_: object,
    ) -> EomtForUniversalSegmentationOutput:
        """As the parent's: `loss` where labels are given, mask logits [B, Q, h, w] and class logits [B, Q, C + 1] of
        the last prediction, and `last_hidden_state` [B, Q + prefix + patches, width]."""
        hidden = self.embeddings(pixel_values)
        first = len(self.layers) - self.config.num_blocks
        learnt: list[tuple[Tensor, Tensor]] = []
        for index, layer in enumerate(self.layers):
            block, bias = index - first, None
            if block == 0:
                query = self.query.weight[None].expand(len(hidden), -1, -1).to(hidden)
                hidden = torch.cat((query, hidden), dim=1)
            if block >= 0:
                share = float(self.attn_mask_probs[block])
                if share > 0 or (self.training and block in self.supervised):
                    prediction = self.predict(self.layernorm(hidden))
                    if self.training:
                        learnt.append(prediction)
                    if share > 0:
                        bias = self._attention_bias(prediction[0], share, hidden)
            hidden = layer(hidden, bias)
        normal = self.layernorm(hidden)
        masks, classes = self.predict(normal)
        loss = None
        if mask_labels is not None and class_labels is not None:
            loss = torch.stack(
                [
                    self.get_loss(self.get_loss_dict(m.float(), c.float(), mask_labels, class_labels, None))
                    for m, c in (*learnt, (masks, classes))
                ]
            ).sum()
        return EomtForUniversalSegmentationOutput(
            loss=loss, masks_queries_logits=masks, class_queries_logits=classes, last_hidden_state=normal
        )

    def predict(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits [B, Q, h, w] and class logits [B, Q, C + 1] from normalised tokens."""
        if not torch.is_grad_enabled():
            # Without a backward pass and in float32 the library's channels-first order is 8 % quicker on a CPU.
            inferred: tuple[Tensor, Tensor] = super().predict(logits)
            return inferred
        queries = logits[:, : self.config.num_queries]
        patches = logits[:, self.config.num_queries + self.embeddings.num_prefix_tokens :]
        rows, columns = self.grid_size
        pixels = patches.reshape(len(logits), rows, columns, -1)
        for layer in self.upscale_block.block:
            pixels = _upscale(layer, pixels)
        count, height, width, channels = pixels.shape
        masks = torch.bmm(self.mask_head(queries), pixels.reshape(count, height * width, channels).transpose(1, 2))
        return masks.view(count, -1, height, width), self.class_predictor(queries)

    @torch.no_grad()
    def _attention_bias(self, masks: Tensor, share: float, hidden: Tensor) -> Tensor:
        """What to add to the attention scores so that `share` of the queries see their own mask's patches alone."""
        inside = F.interpolate(masks.float(), size=self.grid_size, mode="bilinear").flatten(2) > 0
        if share < 1:
            free = torch.rand(inside.shape[:2], device=inside.device) > share
            inside = inside | free[..., None]
        queries, tokens = self.config.num_queries, hidden.shape[1]
        bias = torch.zeros(len(hidden), 1, tokens, tokens, device=hidden.device, dtype=torch.float32)
        bias[:, 0, :queries, queries + self.embeddings.num_prefix_tokens :].masked_fill_(~inside, MASKED)
        return bias


def _upscale(layer: Any, pixels: Tensor) -> Tensor:  # noqa: ANN401 - transformers' EomtScaleLayer
    """One EomtScaleLayer on channels-last pictures: [B, h, w, C] to [B, 2h, 2w, C]."""
    count, height, width, channels = pixels.shape
    kernel = layer.conv1.weight.permute(2, 3, 1, 0).reshape(4 * channels, channels)
    wide = layer.activation(F.linear(pixels, kernel, layer.conv1.bias.repeat(4)))
    fine = wide.view(count, height, width, 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
    fine = fine.reshape(count, 2 * height, 2 * width, channels)
    fine = layer.conv2(fine.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    norm = layer.layernorm2d
    return F.layer_norm(fine, (channels,), norm.weight, norm.bias, norm.eps)
