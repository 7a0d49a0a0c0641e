"""Read a variant's folder into checked tensors, off the inference path. Nothing here runs a model."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors

from serving.errors import AdapterError, AdapterUnreadable, DigestMismatch, WrongBase
from serving.folder.routing import WEIGHTS as WEIGHTS
from serving.inference.picture_sizes import PictureSizes
from serving.inference.score_calibration import EVEN, checked

CONFIG = "adapter_config.json"
VARIANT = "variant.json"
DISJOINT = "disjoint"
"""In `variant.json`: whether the cell's packages never lie in one another; no, where it is absent."""
FILES = (CONFIG, WEIGHTS, VARIANT)

MAX_WEIGHTS_BYTES = 512 * 1024 * 1024
MAX_JSON_BYTES = 1024 * 1024
MAX_CLASS_NAME = 200
"""Characters of a class's name, as the hub allows them."""
MAX_GROWTH = 100.0
"""How many times the norm of a layer's own weights (and 1 more) an adapter's change of them may have. Fine-tunes change
less than the weights themselves; what is far beyond drowns everything that the base has learnt."""
MAX_ALPHA = 1e6
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""What an adapter's numbers may be stored as. Narrower types lack the arithmetic that checks them."""

_PREFIX = "base_model.model."
_SIDES = {".lora_A.weight": "a", ".lora_B.weight": "b"}
# Each of these changes what the adapter computes in a way that a plain low-rank product does not cover. Serving such a
# variant as plain LoRA would silently give other masks than the team saw in its report.
_UNSUPPORTED = (
    "use_dora",
    "modules_to_save",
    "fan_in_fan_out",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "velora_config",
    "monteclora_config",
)
# Initialisations that take their low-rank part out of the base weights: such an adapter needs a changed base.
_RESIDUAL_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What an adapter of one layer has to fit: `inner` and `outer` features, or channels of a convolution and its
    `kernel` (rows, columns). `limit` is the largest Frobenius norm that its change of the weights may have."""

    inner: int
    outer: int
    kernel: tuple[int, int] | None = None
    limit: float = math.inf

    @property
    def depth(self) -> int:
        """How many numbers a row of A holds."""
        return self.inner * math.prod(self.kernel or ())

    def file_a(self, rank: int) -> list[int]:
        """Shape of `lora_A` in a file."""
        return [rank, self.inner, *(self.kernel or ())]

    def file_b(self, rank: int) -> list[int]:
        """Shape of `lora_B` in a file."""
        return [self.outer, rank, 1, 1] if self.kernel else [self.outer, rank]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """One variant, checked and ready to be copied into a slot.

    `weights[layer]` is (A float32 [r, depth], B float32 [r, out]): B is transposed and has the LoRA scale folded in, so
    a linear layer's branch is `x @ A.T @ B`. A row of a convolution's A is its kernel by rows, columns and channels, in
    this order: what `B.T @ A` adds to its weight, channels last. `labels` maps the base's labels to the team's classes;
    `pivot` is the network's score that is answered as a half (`serving.inference.score_calibration`); `size` is the
    side of its pictures in pixels, None for the base's own. `disjoint`: no package of the cell lies in another of its
    class, so that answers are told apart from their parts as the base's are.
    """

    name: str
    rank: int
    labels: Mapping[str, str]
    weights: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    pivot: float = EVEN
    size: int | None = None
    disjoint: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors hold in memory."""
        return sum(a.nbytes + b.nbytes for a, b in self.weights.values())


def read_adapter(
    name: str,
    folder: Path,
    *,
    base_name: str,
    base_labels: frozenset[str],
    layers: Mapping[str, LayerShape],
    max_rank: int,
    sizes: PictureSizes,
    digests: Mapping[str, str] | None = None,
) -> Adapter:
    """Read and check `folder` against the loaded base.

    Args:
        name: what robots call it, `<cell>@<version>`.
        base_name: `<repo name>@<revision>` of the loaded base.
        base_labels: class names of the base.
        layers: shape of every layer that can carry an adapter.
        sizes: what pictures the base takes.
        digests: file name -> SHA-256; when given, the weights must be named and every named file must match.

    Raises: AdapterError, and of it AdapterUnreadable (the disk's or the memory's fault, which may pass), WrongBase and
    DigestMismatch. Nothing else, whatever is in the files: they are one tenant's, and the caller serves others.
    """
    try:
        files = {file: _read(folder / file) for file in FILES}
        if digests is not None:
            _check_digests(folder, files, digests)
        config = _json_object(folder / CONFIG, files[CONFIG])
        variant = _json_object(folder / VARIANT, files[VARIANT])
        _check_base(variant, base_name)
        labels = _labels(variant, base_labels)
        pivot = _pivot(variant)
        size = _size(variant, sizes)
        disjoint = _disjoint(variant)
        rank, scale = _rank_and_scale(config, max_rank)
        weights = _weights(folder / WEIGHTS, files[WEIGHTS], rank, scale, layers)
    except AdapterError as error:
        raise error.of(name) from error.__cause__
    except MemoryError as error:
        raise AdapterUnreadable("there is no memory to read it", variant=name) from error
    except Exception as error:
        # Whoever wrote the checks below did not foresee these bytes. They are refused like all others.
        raise AdapterError(f"cannot be read: {type(error).__name__}: {error}", variant=name) from error
    return Adapter(name, rank, labels, weights, pivot, None if size == sizes.own else size, disjoint)


def _read(path: Path) -> bytes:
    limit = MAX_WEIGHTS_BYTES if path.name == WEIGHTS else MAX_JSON_BYTES
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise AdapterUnreadable(f"cannot be read: {error.strerror}", path=path) from error
    if len(data) > limit:
        raise AdapterError(f"the file is larger than {limit:,} bytes", path=path)
    return data


def _check_digests(folder: Path, files: Mapping[str, bytes], digests: Mapping[str, str]) -> None:
    if WEIGHTS not in digests:
        raise DigestMismatch("the routing table names no digest for the weights", path=folder / WEIGHTS)
    for file, expected in digests.items():
        # The digest is of the very bytes that are parsed below: there is no second read to swap the file in between.
        if file in files and hashlib.sha256(files[file]).hexdigest() != expected:
            raise DigestMismatch("the SHA-256 differs from the routing table's", path=folder / file)


def _json_object(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"not valid JSON: {error}", path=path) from error
    if not isinstance(value, dict):
        raise AdapterError("must be a JSON object", path=path)
    return value


def _check_base(variant: Mapping[str, Any], base_name: str) -> None:
    base = variant.get("base")
    if not isinstance(base, Mapping):
        raise AdapterError(f"{VARIANT} names no base")
    wanted = f"{str(base.get('repo', '')).rpartition('/')[2]}@{base.get('revision')}"
    if wanted != base_name:
        raise WrongBase(f"trained on base '{wanted}', but '{base_name}' is loaded; fine-tune it again on that base")


def _labels(variant: Mapping[str, Any], base_labels: frozenset[str]) -> dict[str, str]:
    labels = variant.get("labels")
    if not isinstance(labels, dict) or not labels or not all(isinstance(v, str) and v for v in labels.values()):
        raise AdapterError(f"{VARIANT}: labels must map base labels to class names")
    unknown = sorted(set(labels) - base_labels)
    if unknown:
        raise AdapterError(f"{VARIANT}: the base has no label {', '.join(map(repr, unknown))}")
    for name in labels.values():
        # `isprintable` is false of line breaks, control characters and halves of a surrogate pair.
        if len(name) > MAX_CLASS_NAME or not name.isprintable():
            raise AdapterError(f"{VARIANT}: a class's name has at most {MAX_CLASS_NAME} printable characters")
    return labels


def _pivot(variant: Mapping[str, Any]) -> float:
    try:
        return checked(variant.get("score_pivot", EVEN))
    except ValueError as error:
        raise AdapterError(f"{VARIANT}: {error}") from error


def _disjoint(variant: Mapping[str, Any]) -> bool:
    said = variant.get(DISJOINT, False)
    if not isinstance(said, bool):
        raise AdapterError(f"{VARIANT}: {DISJOINT} must be true or false")
    return said


def _size(variant: Mapping[str, Any], sizes: PictureSizes) -> int:
    try:
        return sizes.of(variant)
    except ValueError as error:
        raise AdapterError(f"{VARIANT}: {error}") from error


def _rank_and_scale(config: Mapping[str, Any], max_rank: int) -> tuple[int, float]:
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"peft_type is {config.get('peft_type')!r}; only LORA is served")
    used = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        used.append("bias")
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_RESIDUAL_INITS):
        used.append(f"init_lora_weights={init}")
    if used:
        raise AdapterError(f"{CONFIG}: not served: {', '.join(used)}")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or not 1 <= rank <= max_rank:
        raise AdapterError(f"rank {rank!r} is not between 1 and {max_rank}")
    # Compared before anything is computed: a whole number may be too large for a float.
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not -MAX_ALPHA <= alpha <= MAX_ALPHA:
        raise AdapterError(f"lora_alpha is not a number between -{MAX_ALPHA:g} and {MAX_ALPHA:g}")
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _weights(
    path: Path, data: bytes, rank: int, scale: float, layers: Mapping[str, LayerShape]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    try:
        tensors = load_safetensors(data)
    except MemoryError:
        raise
    except Exception as error:  # a type that this version of the library or of torch does not know
        raise AdapterError(f"not valid safetensors: {type(error).__name__}: {error}", path=path) from error
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        side = next((side for side in _SIDES if key.endswith(side)), None)
        layer = key.removeprefix(_PREFIX)[: -len(side)] if side and key.startswith(_PREFIX) else None
        if side is None or layer is None or layer not in layers:
            raise AdapterError(f"tensor '{key}' belongs to no layer of the base that takes adapters", path=path)
        shape, is_a = layers[layer], _SIDES[side] == "a"
        expected = shape.file_a(rank) if is_a else shape.file_b(rank)
        if list(tensor.shape) != expected:
            raise AdapterError(f"tensor '{key}' has shape {list(tensor.shape)}, not {expected}", path=path)
        if tensor.dtype not in TYPES:
            stored = str(tensor.dtype).removeprefix("torch.")
            raise AdapterError(
                f"tensor '{key}' must hold floating-point values of 16, 32 or 64 bits, not {stored}", path=path
            )
        if shape.kernel and is_a:
            tensor = tensor.permute(0, 2, 3, 1)
        rows = tensor.reshape(tensor.shape[0], -1).to(torch.float32)
        half = rows if is_a else (rows.T * scale).contiguous()
        # Of what is computed with, not of what is stored: scaling and a narrower type may make infinities.
        if not torch.isfinite(half).all():
            raise AdapterError(f"tensor '{key}' must hold values that are finite once scaled", path=path)
        found.setdefault(layer, {})[_SIDES[side]] = half
    alone = sorted(layer for layer, pair in found.items() if len(pair) == 1)
    if alone or not found:
        raise AdapterError(f"lora_A and lora_B do not pair up{f' on {alone[0]}' if alone else ''}", path=path)
    for layer, pair in found.items():
        change = change_norm(pair["a"], pair["b"])
        if not change <= layers[layer].limit:
            raise AdapterError(
                f"the adapter changes layer '{layer}' by a norm of {change:.3g}; {layers[layer].limit:.3g} is the most"
                " that is served",
                path=path,
            )
    return {layer: (pair["a"], pair["b"]) for layer, pair in found.items()}


def change_norm(a: torch.Tensor, b: torch.Tensor) -> float:
    """The Frobenius norm of the change B^T A of A [r, depth] and B [r, out], without making it."""
    a, b = a.double(), b.double()
    return math.sqrt(max(float(((a @ a.T) * (b @ b.T)).sum()), 0.0))
