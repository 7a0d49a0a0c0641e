"""Whether a CPU is quicker in bfloat16: measured, since what a CPU says it can do does not tell.

A Xeon whose AMX the hypervisor hides still names AVX512-BF16, and multiplies in it at half of float32's speed; with
AMX, or on an EPYC that names the same instructions, bfloat16 is the quicker one by far (docs/history/serving.md).
"""

from __future__ import annotations

import logging
import time
from functools import cache

import torch

log = logging.getLogger(__name__)

QUICKER = 1.15
"""How many times float32's speed bfloat16 must have to be worth its rounding. Machines were seen at 0.5 and 1.7."""

_SIDE, _TURNS = 512, 9


def native_bfloat16() -> bool:
    """Whether this CPU has bfloat16 products of its own (AVX512-BF16 or AMX); without, they are emulated."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


@cache
def quick_bfloat16() -> bool:
    """Whether matrix products in bfloat16 are the quicker ones on this CPU, found out once in a process."""
    if not native_bfloat16():
        return False
    speedup = bfloat16_speedup()
    log.info("matrix products in bfloat16 take %.2f of float32's time here", 1 / speedup)
    return speedup >= QUICKER


def bfloat16_speedup() -> float:
    """Speed of products [512, 512] x [512, 512] in bfloat16 over float32's: best of a few turns each, 30 ms in all."""
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with torch.inference_mode():
        factors = {dtype: torch.ones(_SIDE, _SIDE, dtype=dtype) for dtype in best}
        for turn in range(_TURNS + 1):  # the first one makes the kernels
            for dtype, factor in factors.items():
                started = time.perf_counter()
                torch.mm(factor, factor)
                if turn:
                    best[dtype] = min(best[dtype], time.perf_counter() - started)
    return best[torch.float32] / best[torch.bfloat16]
