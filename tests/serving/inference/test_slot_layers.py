"""Layers that take an adapter for each row: against PEFT itself, layer by layer, and how adapters lie in memory."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from serving.families.parcelseg import ParcelSeg, ParcelSegConfig
from serving.families.patches import PatchConv
from serving.inference.adapter_files import Adapter
from serving.inference.merged_weights import MergedPool
from serving.inference.slot_layers import BlockLayout, RowBlocks, Run, can_carry, shape_of, slot_layer
from tests.scale import scaled

LAYERS = {
    "linear": (lambda: nn.Linear(6, 10), (3, 7, 6)),
    "linear over many tokens": (lambda: nn.Linear(4, 5), (3, 200, 4)),
    "linear without bias": (lambda: nn.Linear(6, 10, bias=False), (3, 6)),
    "3 x 3": (lambda: nn.Conv2d(4, 6, 3, 1, 1, bias=False), (3, 4, 9, 8)),
    "3 x 3, bias, no padding": (lambda: nn.Conv2d(4, 6, 3), (3, 4, 9, 8)),
    "3 x 3, every other pixel": (lambda: nn.Conv2d(3, 5, 3, 2, 1), (3, 3, 8, 10)),
    "5 x 3, uneven": (lambda: nn.Conv2d(2, 3, (5, 3), (1, 2), (2, 1)), (3, 2, 7, 9)),
    "1 x 1": (lambda: nn.Conv2d(4, 6, 1), (3, 4, 5, 5)),
    "patches": (lambda: PatchConv(3, 8, 4, 4), (3, 3, 8, 12)),
}


def build(name: str, *, rank: int = 2, seed: int = 0):
    """The plain layer, PEFT's three adapters on copies of it, and the same adapters as the bank keeps them."""
    make, shape = LAYERS[name]
    torch.manual_seed(seed)
    layer = make().requires_grad_(False)
    start = {key: value.clone() for key, value in layer.state_dict().items()}
    theirs, ours = [], []
    for number in range(3):
        torch.manual_seed(seed + number + 1)
        copy = make()
        copy.load_state_dict(start)
        net = get_peft_model(nn.ModuleDict({"it": copy}), LoraConfig(r=rank, lora_alpha=3, target_modules=["it"]))
        adapted = net.base_model.model["it"]
        nn.init.normal_(adapted.lora_B["default"].weight)
        theirs.append(adapted.eval())
        a, b = (adapted.lora_A["default"].weight.detach(), adapted.lora_B["default"].weight.detach())
        rows = a.permute(0, 2, 3, 1) if a.dim() == 4 else a
        ours.append(Adapter(f"v{number}", rank, {}, {"it": (rows.flatten(1), b.flatten(1).T * 3 / rank)}))
    return layer, torch.randn(*shape), theirs, ours


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("traced", [False, True])
def test_every_row_gets_what_peft_gives_it(name: str, traced: bool) -> None:
    layer, x, theirs, ours = build(name)
    assert can_carry(layer)
    layout = BlockLayout.of({"it": layer})
    slots = torch.zeros(4, 1 + 3, layout.width)  # one row more than the rank needs; the last is the base's
    slots[:, 0] = layout.base_row({"it": layer})
    for slot, adapter in zip(slots, ours, strict=False):
        layout.write(layout.pack(adapter, torch.float32), slot)
    rows = RowBlocks(traced=traced)
    served = slot_layer("it", layer, layout.spans["it"], rows)
    with torch.no_grad():
        torch.testing.assert_close(served(x), layer(x))
        rows.put(slots[torch.tensor([2, 0, 3])], frozenset({"it"}))
        y = served(x)
        for row, adapted in ((0, theirs[2]), (1, theirs[0]), (2, layer)):
            torch.testing.assert_close(y[row], adapted(x[row : row + 1])[0], atol=1e-4, rtol=1e-4)
        rows.put(slots[1:2], frozenset({"it"}))
        torch.testing.assert_close(served(x), theirs[1](x), atol=1e-4, rtol=1e-4)
        rows.put(slots[1:2], frozenset({"another"}))
        torch.testing.assert_close(served(x), layer(x))


@pytest.mark.parametrize("name", LAYERS)
def test_merged_weights_are_pefts(name: str) -> None:
    layer, x, theirs, ours = build(name)
    layout = BlockLayout.of({"it": layer})
    slot = torch.zeros(3, layout.width)
    layout.write(layout.pack(ours[0], torch.float32), slot)
    pool = MergedPool({"it": layer}, layout)
    assert pool.weights(1, slot, {"it"}) is None, "not asked for often enough"
    merged = pool.weights(1, slot, {"it"})
    rows = RowBlocks()
    rows.put(None, frozenset({"it"}), merged)
    with torch.no_grad():
        y = slot_layer("it", layer, layout.spans["it"], rows)(x)
        torch.testing.assert_close(y, theirs[0](x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("traced", [False, True])
def test_a_stage_runs_each_variants_rows(name: str, traced: bool) -> None:
    """Runs whose weights are merged, whose are not, and the base's, in one batch; with an output for each input."""
    layer, x, theirs, ours = build(name)
    layout = BlockLayout.of({"it": layer})
    slots = torch.zeros(3, 1 + 2, layout.width)
    slots[:, 0] = layout.base_row({"it": layer})
    for slot, adapter in zip(slots[1:], ours, strict=False):
        layout.write(layout.pack(adapter, torch.float32), slot)
    pool = MergedPool({"it": layer}, layout)
    ready = [pool.weights(1, slots[1], {"it"}) for _ in range(2)][1]
    rows = RowBlocks(traced=traced, convolutions=frozenset({"it"} if isinstance(layer, nn.Conv2d) else ()))
    served = slot_layer("it", layer, layout.spans["it"], rows)
    whole = traced or not rows.convolutions
    expected = {0: layer, 1: theirs[0], 2: theirs[1]}
    it = frozenset({"it"})
    calls: list[int] = []

    def stage(pixels: torch.Tensor, doubled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(len(pixels))
        return served(pixels), doubled

    with torch.no_grad():
        for index, runs in (
            ([1, 2, 0], (Run(1, it, ready), Run(1, it), Run(1))),
            ([1, 1, 2], (Run(2, it, ready), Run(1, it))),
            ([2, 0, 0], (Run(1, it), Run(2))),
            ([0, 1, 2], (Run(1), Run(1, it), Run(1, it))),
            ([1, 1, 0], (Run(2, it, ready), Run(1))),
            ([0, 0, 0], ()),
        ):
            rows.put(slots[torch.tensor(index)], it, runs=runs)
            calls.clear()
            y, double = rows.run_by_run(stage, x, 2 * x, parts=("it", "other"))
            assert calls == ([len(x)] if whole or not runs else [run.rows for run in runs])
            torch.testing.assert_close(double, 2 * x)
            assert rows.runs == runs, "the next stage runs on the same rows"
            for row, slot in enumerate(index):
                torch.testing.assert_close(y[row], expected[slot](x[row : row + 1])[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("touched", "parts", "split"),
    [
        ({"tower.0.conv"}, ("tower", "head"), True),
        ({"tower.0.conv", "head"}, ("tower", "head"), True),
        ({"head"}, ("tower", "head"), False),  # a linear layer: two batched products
        ({"tower.0.conv", "head"}, ("stem", "head"), False),  # no adapted convolution is in this part
        ({"towers"}, ("tower",), False),
        (set(), ("tower",), False),
    ],
)
def test_a_part_is_split_for_the_convolutions_in_it_alone(
    touched: set[str], parts: tuple[str, ...], split: bool
) -> None:
    rows = RowBlocks(convolutions=frozenset({"tower.0.conv", "towers"}))
    rows.put(torch.zeros(2, 2, 4), frozenset(touched), runs=(Run(1, frozenset(touched)), Run(1)))
    calls: list[int] = []

    def stage(pixels: torch.Tensor) -> tuple[torch.Tensor]:
        calls.append(len(pixels))
        return (pixels,)

    rows.run_by_run(stage, torch.zeros(2, 3), parts=parts)
    assert calls == ([1, 1] if split else [2])


def test_the_parts_of_a_network_hold_every_layer_that_carries() -> None:
    """A layer in no part would be split for no one, and a misspelt name would split nothing."""
    for encoder in ("stem", "efficientnet-lite0"):
        model = ParcelSeg(ParcelSegConfig(encoder=encoder, hidden_size=32, num_hidden_layers=1, num_attention_heads=2))
        convolutions = {
            name.partition(".")[0]
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Conv2d) and re.fullmatch(model.adapter_targets or "", name)
        }
        asked: list[str] = []

        def run(stage, *inputs, parts, asked=asked):
            asked.extend(parts)
            return stage(*inputs)

        model.run_stage = run
        with torch.no_grad():
            model.eval().answer(torch.zeros(1, 3, 64, 64))
        assert convolutions and convolutions <= set(asked)
        assert len(asked) == len(set(asked))


def test_no_variant_of_a_batch_pushes_out_another_of_it() -> None:
    """A pool with room for one: what the first run's weights are must hold until the batch is over."""
    layer, _, _, ours = build("3 x 3")
    layout = BlockLayout.of({"it": layer})
    slots = torch.zeros(3, 1 + 2, layout.width)
    for slot, adapter in zip(slots[1:], ours, strict=False):
        layout.write(layout.pack(adapter, torch.float32), slot)
    pool = MergedPool({"it": layer}, layout, pool_bytes=layer.weight.numel() * layer.weight.element_size())
    for _ in range(2):
        first = pool.weights(1, slots[1], {"it"})
    assert first is not None
    held = first["it"].clone()
    for _ in range(5):  # asked for more than the first by now, and beside it
        assert pool.weights(2, slots[2], {"it"}, beside={1, 2}) is None
    torch.testing.assert_close(first["it"], held)
    second = pool.weights(2, slots[2], {"it"}, beside={2})
    assert second is not None and not torch.allclose(second["it"], held)


def test_an_adapter_of_other_layers_is_not_merged() -> None:
    layers = {name: nn.Linear(3, 4).requires_grad_(False) for name in ("tuned", "other")}
    layout = BlockLayout.of(layers)
    pool = MergedPool({"tuned": layers["tuned"]}, layout)
    slot = torch.zeros(3, layout.width)
    assert [pool.weights(1, slot, {"tuned", "other"}) for _ in range(3)] == [None] * 3
    assert len(pool) == 0
    assert [pool.weights(2, slot, {"tuned"}) is None for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.LayerNorm(4),
        nn.Embedding(4, 4),
    ],
)
def test_what_cannot_be_told_apart_by_row_carries_nothing(layer: nn.Module) -> None:
    assert not can_carry(layer)


def test_patches_are_the_convolution() -> None:
    layer = PatchConv(3, 8, (4, 2), (4, 2))
    x = torch.randn(2, 3, 8, 12)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias, stride=(4, 2)))


@settings(max_examples=scaled(20, 400), deadline=None)
@given(touched=st.sets(st.sampled_from("abcdef"), min_size=1), rank=st.integers(1, 4), before=st.booleans())
def test_a_slot_holds_the_adapter_and_zeros(touched: set[str], rank: int, before: bool) -> None:
    layers = {name: nn.Linear(2 + k, 3) if k % 2 else nn.Conv2d(1 + k, 2, 3) for k, name in enumerate("abcdef")}
    layout = BlockLayout.of(layers)
    weights = {
        name: (torch.randn(rank, shape_of(layers[name]).depth), torch.randn(rank, shape_of(layers[name]).outer))
        for name in touched
    }
    packed = layout.pack(Adapter("v", rank, {}, weights), torch.float32)
    assert packed.block.numel() == sum(a.numel() + b.numel() for a, b in weights.values()), "no byte more than its own"
    slot = torch.full((6, layout.width), 7.0 if before else 0.0)
    layout.write(packed, slot)
    first, last = layout.hull(packed.runs)
    assert not slot[1:, :first].any()
    assert not slot[1:, last:].any()
    assert not slot[1 + rank :].any()
    for name, span in layout.spans.items():
        a, b = slot[1 : 1 + rank, span.a : span.b], slot[1 : 1 + rank, span.b : span.end]
        if name in touched:
            assert torch.equal(a, weights[name][0])
            assert torch.equal(b, weights[name][1])
            assert first <= span.a
            assert span.end <= last
        else:
            assert not a.any()
            assert not b.any()
