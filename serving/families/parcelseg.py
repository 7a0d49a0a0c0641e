"""ParcelSeg: one-stage instance segmentation made to learn from few pictures and to carry many adapters.

Every cell of a fine grid answers for the instance it lies in: which class it is, where its box ends (Tian et al.,
"FCOS", arXiv 1904.01355) and, as coefficients of prototype masks, its outline (Bolya et al., "YOLACT", arXiv
1904.02689). Thousands of cells learn from each picture, where a set of queries has as many positives as packages; from
scratch and in the same time that was worth several times the AP (docs/history/bases.md, "The bake-off").

The encoder is convolutions, then a plain vision transformer at a sixteenth of the picture. The convolutions are a stem
of the family's own, or an EfficientNet-Lite that learnt from photographs before. All that an adapter may want to change
is a linear layer or a convolution with the batch axis first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from serving.families.efficientnet_lite import LiteEncoder
from serving.families.patches import PatchConv
from serving.families.positions import between_positions, sine_positions
from serving.families.types import InstanceModel, Prediction

OUTSIDE = -12.0  # the logit of a mask outside of its box
BOX_UNIT = 16.0  # pixels: what a softplus of one means as a distance to a box's edge
SAME = 0.8  # cells whose boxes overlap by so much answer for the same instance
LOOKED_AT = 3  # cells looked at for each instance that may be answered
_LAST = 100.0  # more than any two logits differ
_SEEING = ("stem", "patch_embedding", "stem_embedding", "encoder", "project4", "project8", "project16")
_SAYING = (
    *("widen8", "lateral8", "mix8", "widen4", "lateral4", "mix4", "class_tower", "shape_tower"),
    *("class_predictor", "box_head", "mask_head", "prototypes"),
)


class ParcelSegConfig(PreTrainedConfig):  # type: ignore[misc]  # untyped in the library
    """Sizes of a ParcelSeg. `image_size` and `patch_size` are pixels; masks come at a quarter of the picture's side,
    `num_queries` is how many instances a picture is answered with at most. `encoder` is `stem` for convolutions of the
    family's own or the name of an EfficientNet-Lite, for which `patch_size` is 16."""

    model_type = "parcelseg"

    encoder: str = "stem"
    image_size: int = 256
    patch_size: int = 16
    hidden_size: int = 192
    num_hidden_layers: int = 8
    num_attention_heads: int = 6
    mlp_ratio: int = 4
    num_register_tokens: int = 4
    stem_channels: tuple[int, int] | list[int] = (32, 64)
    pyramid_channels: int = 96
    num_prototypes: int = 32
    num_queries: int = 100
    layer_norm_eps: float = 1e-6


@dataclass
class ParcelSegOutput(ModelOutput):  # type: ignore[misc]  # untyped in the library
    """`masks` are logits [B, K, h, w], far below zero outside of their boxes, `logits` the classes' [B, K, C] for a
    sigmoid each, `boxes` [B, K, 4] x0, y0, x1, y1 as shares of the side; best score first."""

    masks: Tensor | None = None
    logits: Tensor | None = None
    boxes: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Dense:
    """What every cell says, G x G cells in rows, and the prototypes: `logits` float32 [B, G * G, C], `boxes` float32
    [B, G * G, 4] as shares of the side, `coefficients` [B, G * G, P], `prototypes` [B, h, w, P]."""

    logits: Tensor
    boxes: Tensor
    coefficients: Tensor
    prototypes: Tensor


def _convolve(layer: nn.Conv2d, pixels: Tensor) -> Tensor:
    """A convolution of channels-last pictures [B, h, w, C]; the permuted view is what its kernels take fastest."""
    return layer(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _unfold(wide: Tensor) -> Tensor:
    """[B, h, w, 4 C] to [B, 2 h, 2 w, C]: each place becomes four."""
    count, height, width, channels = wide.shape
    fine = wide.view(count, height, width, 2, 2, channels // 4).permute(0, 1, 3, 2, 4, 5)
    return fine.reshape(count, 2 * height, 2 * width, channels // 4)


class ConvNorm(nn.Module):
    """3 x 3 convolution, LayerNorm over the channels, GELU; channels-last."""

    def __init__(self, inner: int, outer: int, *, stride: int = 1, eps: float = 1e-6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm = nn.LayerNorm(outer, eps=eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, h, w, inner] to [B, h / stride, w / stride, outer]."""
        return F.gelu(self.norm(_convolve(self.conv, pixels)))


class Residual(ConvNorm):
    """A ConvNorm beside a shortcut."""

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, h, w, C] to the same."""
        return pixels + super().forward(pixels)


@cache
def fused_bf16() -> bool:
    """Whether this CPU has the tiles (AMX) that make fused attention in bfloat16 the quicker way to answer."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, width] to the same."""
        count, number, width = tokens.shape
        shape = (count, number, 3, self.heads, width // self.heads)
        query, key, value = self.qkv(tokens).view(shape).permute(2, 0, 3, 1, 4)
        slow = query.device.type == "cpu" and query.dtype == torch.bfloat16
        if slow and (torch.is_grad_enabled() or not fused_bf16()):
            # The fused kernel is slower there than two matrix products: backwards everywhere, forwards without AMX.
            with torch.autocast("cpu", enabled=False):
                scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
                mixed = torch.matmul(scores.softmax(-1), value)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).reshape(count, number, width))


class Layer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: ParcelSegConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = Attention(width, config.num_attention_heads)
        self.norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(width, config.mlp_ratio * width)
        self.fc2 = nn.Linear(config.mlp_ratio * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, width] to the same."""
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.fc2(F.gelu(self.fc1(self.norm2(tokens))))


class ParcelSeg(PreTrainedModel, InstanceModel):  # type: ignore[misc]  # untyped in the library
    """The network. `forward` answers; training reads what each cell says from `dense`."""

    config_class = ParcelSegConfig
    duplicate_iou = 0.6
    part_share = 0.8
    any_size = True
    # What a camera's pictures differ in, the convolutions see; with the transformer's layers adapted beside them,
    # variants came out worse (docs/history/variants.md, "The recipe of a variant").
    tuned_targets = (
        r"(patch|stem)_embedding|(stem|class_tower|shape_tower)\.\d+\.conv|mix[48]\.conv"
        r"|(widen|lateral)[48]|prototypes|class_predictor|box_head|mask_head"
    )
    adapter_targets = rf"layers\.\d+\.(attention\.(qkv|out_proj)|fc[12])|{tuned_targets}"
    # From what a surface looks like to what a thing is (docs/events.md).
    feature_layers = ("lateral8", "mix8", "class_tower.1", "layernorm", "class_predictor")
    base_model_prefix = ""
    main_input_name = "pixel_values"

    def __init__(self, config: ParcelSegConfig) -> None:
        super().__init__(config)
        width, pyramid, eps = config.hidden_size, config.pyramid_channels, config.layer_norm_eps
        fine, fourth = config.stem_channels
        self.side = config.image_size // config.patch_size
        if config.encoder == "stem":
            self.stem = nn.ModuleList(
                [
                    ConvNorm(3, fine, stride=2, eps=eps),
                    ConvNorm(fine, fourth, stride=2, eps=eps),
                    Residual(fourth, fourth, eps=eps),
                    ConvNorm(fourth, pyramid, stride=2, eps=eps),
                    Residual(pyramid, pyramid, eps=eps),
                    Residual(pyramid, pyramid, eps=eps),
                ]
            )
            self.patch_embedding = PatchConv(3, width, config.patch_size, config.patch_size)
            self.stem_embedding = PatchConv(pyramid, width, config.patch_size // 8, config.patch_size // 8)
        else:
            self.encoder = LiteEncoder(config.encoder)
            of4, of8, of16, of32 = self.encoder.channels
            self.project4 = nn.Linear(of4, fourth)
            self.project8 = nn.Linear(of8, pyramid)
            self.project16 = nn.Linear(of16 + of32, width)
        self.position_embedding = nn.Parameter(torch.zeros(1, self.side * self.side, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.num_register_tokens, width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(width, eps=eps)
        self.widen8 = nn.Linear(width, 4 * pyramid)
        self.lateral8 = nn.Linear(pyramid, pyramid)
        self.mix8 = ConvNorm(pyramid, pyramid, eps=eps)
        self.widen4 = nn.Linear(pyramid, 4 * fourth)
        self.lateral4 = nn.Linear(fourth, fourth)
        self.mix4 = ConvNorm(fourth, fourth, eps=eps)
        self.prototypes = nn.Linear(fourth, config.num_prototypes)
        # What a thing is and where it ends are read from different features (Ge et al., "YOLOX", arXiv 2107.08430).
        self.class_tower = nn.ModuleList(ConvNorm(pyramid, pyramid, eps=eps) for _ in range(2))
        self.shape_tower = nn.ModuleList(ConvNorm(pyramid, pyramid, eps=eps) for _ in range(2))
        self.class_predictor = nn.Linear(pyramid, config.num_labels)
        self.box_head = nn.Linear(pyramid, 4)
        self.mask_head = nn.Linear(pyramid, config.num_prototypes)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Called by the library for weights that did not come from a file."""
        if isinstance(module, nn.Linear):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, ParcelSeg):
            module.position_embedding.copy_(sine_positions(module.side, module.config.hidden_size)[None])
            nn.init.normal_(module.register_tokens, std=0.02)
            if module.config.encoder == "stem":
                # Patches and positions are what attention starts from; the convolutions join in as they learn.
                nn.init.normal_(module.stem_embedding.weight, std=0.01)
            # At first nearly every cell is background and says so (focal loss's prior, Lin et al., arXiv 1708.02002);
            # boxes start about four cells wide.
            nn.init.constant_(module.class_predictor.bias, -4.6)
            nn.init.ones_(module.box_head.bias)
            nn.init.normal_(module.prototypes.weight, std=0.1)
            nn.init.normal_(module.mask_head.weight, std=0.05)

    @torch.no_grad()
    def resize(self, image_size: int) -> None:
        """Take pictures of `image_size` pixels a side from now on: positions are interpolated between those learnt
        (Dosovitskiy et al., arXiv 2010.11929, section 3.2). Raises ValueError for a size that patches do not fill."""
        if image_size < self.config.patch_size or image_size % self.config.patch_size:
            raise ValueError(f"{image_size} pixels are no multiple of the patches' {self.config.patch_size}")
        old, self.side = self.side, image_size // self.config.patch_size
        self.config.image_size = image_size
        if old == self.side:  # interpolated in place, values would change by a rounding
            return
        self.position_embedding = nn.Parameter(between_positions(self.position_embedding, old, self.side))

    def positions(self, side: int) -> Tensor:
        """Position embeddings of side x side tokens, [1, side * side, width]: those learnt, or those between them."""
        if side == self.side:
            return self.position_embedding
        return between_positions(self.position_embedding, self.side, side)

    def dense(self, pixel_values: Tensor) -> Dense:
        """What every cell says of normalised pictures [B, 3, S, S]; S is any multiple of the patches."""
        pixels = pixel_values.to(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        fourth, eight, tokens = self.run_stage(self.see, pixels, parts=_SEEING)
        tokens = self.layernorm(self.through(tokens, len(self.layers)))
        size = pixels.shape[1]
        side = size // self.config.patch_size
        grid = tokens.reshape(tokens.shape[0], side, side, -1)
        logits, reach, coefficients, prototypes = self.run_stage(self._say, grid, eight, fourth, parts=_SAYING)
        reach = F.softplus(reach.float()) * (BOX_UNIT / size)
        middle = cell_middles(2 * side, reach.device)
        boxes = torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], dim=-1)
        return Dense(logits.float(), boxes, coefficients, prototypes)

    def through(self, tokens: Tensor, count: int) -> Tensor:
        """Tokens [B, T, width] of `see` with their positions through the first `count` layers: the same shape."""
        tokens = tokens + self.positions(math.isqrt(tokens.shape[1]))
        registers = self.register_tokens.expand(tokens.shape[0], -1, -1).to(tokens.dtype)
        tokens = torch.cat([registers, tokens], dim=1)
        for layer in self.layers[:count]:
            tokens = layer(tokens)
        return tokens[:, registers.shape[1] :]

    @staticmethod
    def deepest(features: list[Tensor]) -> Tensor:
        """An encoder's features at a sixteenth with those at a thirty-second beside them: [B, side, side, C + D]."""
        sixteenth, coarse = features[2], features[3]
        height, width = sixteenth.shape[1:3]
        wide = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width]
        return torch.cat([sixteenth, wide], dim=-1)

    def see(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures [B, S, S, 3] to features at a fourth and an eighth of the side and tokens [B, T, width]."""
        if self.config.encoder != "stem":
            features = self.encoder(pixels)
            tokens = self.project16(self.deepest(features))
            return self.project4(features[0]), self.project8(features[1]), tokens.flatten(1, 2)
        half, quarter, *eighth = self.stem
        fourth = eighth[0](quarter(half(pixels)))
        eight = fourth
        for layer in eighth[1:]:
            eight = layer(eight)
        tokens = _convolve(self.patch_embedding, pixels) + _convolve(self.stem_embedding, eight)
        return fourth, eight, tokens.flatten(1, 2)

    def _say(self, grid: Tensor, eight: Tensor, fourth: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What attention made of the tokens, [B, side, side, width], and the features of `see` to logits, reaches and
        coefficients of every cell and the prototypes, as `Dense` has them but for the reaches' scale."""
        eight = self.mix8(_unfold(self.widen8(grid)) + self.lateral8(eight))
        fourth = self.mix4(_unfold(self.widen4(eight)) + self.lateral4(fourth))
        kind = shape = eight
        for layer in self.class_tower:
            kind = layer(kind)
        for layer in self.shape_tower:
            shape = layer(shape)
        kind, shape = kind.flatten(1, 2), shape.flatten(1, 2)
        return self.class_predictor(kind), self.box_head(shape), self.mask_head(shape), self.prototypes(fourth)

    def forward(self, pixel_values: Tensor, **_: Any) -> ParcelSegOutput:  # noqa: ANN401 - the Trainer's extras
        """The `num_queries` best cells of normalised pictures [B, 3, S, S] that answer for different instances; what
        is still answered twice, post-processing clears up by its outlines."""
        dense = self.dense(pixel_values)
        best = distinct_cells(dense.logits.amax(-1), dense.boxes, self.config.num_queries)
        logits, boxes, coefficients = (
            field.gather(1, best[..., None].expand(-1, -1, field.shape[-1]))
            for field in (dense.logits, dense.boxes, dense.coefficients)
        )
        count, height, width, _channels = dense.prototypes.shape
        masks = torch.bmm(coefficients.float(), dense.prototypes.float().flatten(1, 2).transpose(1, 2))
        masks = masks.view(count, -1, height, width)
        # One sample of margin: a box is never exact, and the outline inside it is the better judge.
        masks = masks.masked_fill(~inside_boxes(boxes, height, width, margin=1.0), OUTSIDE)
        return ParcelSegOutput(masks=masks, logits=logits, boxes=boxes)

    def answer(self, pixel_values: Tensor) -> Prediction:
        """Predict on normalised pictures float [B, 3, S, S]."""
        output = self(pixel_values)
        return Prediction(output.masks, output.logits.sigmoid())


def distinct_cells(scores: Tensor, boxes: Tensor, count: int) -> Tensor:
    """The `count` best of G cells that answer for different instances: int64 [B, min(count, G)], best first.

    `scores` are logits float32 [B, G], `boxes` [B, G, 4]. A dozen cells answer for each instance: the best hundred of
    all are of ten, and a crowded picture has more. Whoever overlaps with a better cell by `SAME` goes, whether or not
    that one goes itself (Fast NMS of Bolya et al., arXiv 1904.02689: comparisons of all pairs at once, which every
    engine runs). Where too few are left, those that went come behind them.
    """
    best = scores.topk(min(LOOKED_AT * count, scores.shape[1]), dim=1)
    near = boxes.gather(1, best.indices[..., None].expand(-1, -1, 4))
    both, total = box_areas(near[:, :, None], near[:, None])
    place = torch.arange(near.shape[1], device=near.device)
    same = both >= SAME / (1 + SAME) * total  # that is, both / (total - both) >= SAME
    again = (same & (place[:, None] < place)).any(1)
    order = (best.values - _LAST * again).topk(min(count, near.shape[1]), dim=1).indices
    return best.indices.gather(1, order)


def box_areas(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """What boxes [..., 4] that broadcast against each other share, and the sum of their areas."""
    across = torch.minimum(one[..., 2], other[..., 2]) - torch.maximum(one[..., 0], other[..., 0])
    down = torch.minimum(one[..., 3], other[..., 3]) - torch.maximum(one[..., 1], other[..., 1])
    both = across.clamp(min=0) * down.clamp(min=0)
    areas = [(b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1) for b in (one, other)]
    return both, areas[0] + areas[1]


def cell_middles(side: int, device: torch.device | None = None) -> Tensor:
    """Middles x, y of side x side cells in rows, as shares of the side: float32 [side * side, 2]."""
    along = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x, y], dim=-1).view(-1, 2)


def inside_boxes(boxes: Tensor, height: int, width: int, *, margin: float) -> Tensor:
    """Which samples of a height x width grid lie in boxes [..., 4] (shares of the side) grown by `margin` samples:
    bool [..., height, width]."""
    x = (torch.arange(width, device=boxes.device) + 0.5) / width
    y = (torch.arange(height, device=boxes.device) + 0.5) / height
    across = (x > boxes[..., 0:1] - margin / width) & (x < boxes[..., 2:3] + margin / width)
    down = (y > boxes[..., 1:2] - margin / height) & (y < boxes[..., 3:4] + margin / height)
    return down[..., :, None] & across[..., None, :]


AutoConfig.register("parcelseg", ParcelSegConfig)
