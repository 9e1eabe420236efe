"""Writes a model file that is tiny, complete and always the same for one seed.

It has one layer of the llama architecture with random weights: Ollama loads it and generates
tokens, which mean nothing.

Source: ggml, docs/gguf.md.
"""

import math
import random
import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate

_VERSION = 3
_ALIGNMENT = 32  # bytes; each tensor begins at a multiple of it
_F32 = 0  # the tensor type; also the "file type" of a file whose tensors all have it

_MEAN = 1  # how one embedding is made of those of all tokens

_EMBEDDING = 64
_FEED_FORWARD = 128
_HEADS = 2
_CONTEXT = 512

# Token types: 1 normal, 2 unknown, 3 control, 6 byte. With all 256 bytes, any prompt has tokens.
_TOKENS = (
    [("<unk>", 2), ("<s>", 3), ("</s>", 3)]
    + [(f"<0x{byte:02X}>", 6) for byte in range(256)]
    + [(letter, 1) for letter in "\u2581abcdefghijklmnopqrstuvwxyz"]
)

# Dimensions as ggml writes them, the one that varies fastest first.
_TENSORS: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (_EMBEDDING, len(_TOKENS)),
    "output_norm.weight": (_EMBEDDING,),
    "output.weight": (_EMBEDDING, len(_TOKENS)),
    "blk.0.attn_norm.weight": (_EMBEDDING,),
    "blk.0.attn_q.weight": (_EMBEDDING, _EMBEDDING),
    "blk.0.attn_k.weight": (_EMBEDDING, _EMBEDDING),
    "blk.0.attn_v.weight": (_EMBEDDING, _EMBEDDING),
    "blk.0.attn_output.weight": (_EMBEDDING, _EMBEDDING),
    "blk.0.ffn_norm.weight": (_EMBEDDING,),
    "blk.0.ffn_gate.weight": (_EMBEDDING, _FEED_FORWARD),
    "blk.0.ffn_up.weight": (_EMBEDDING, _FEED_FORWARD),
    "blk.0.ffn_down.weight": (_FEED_FORWARD, _EMBEDDING),
}

_Value = int | float | str | Sequence[int] | Sequence[float] | Sequence[str]


def gguf(seed: int = 0, *, embeds: bool = False) -> bytes:
    """Return a model file of about 0.3 MB; one seed always gives the same bytes.

    With `embeds` it says of itself that it is for embedding, so that Ollama lets it do nothing
    else; what it is made of is the same.
    """
    metadata = _metadata(seed) | ({"llama.pooling_type": _MEAN} if embeds else {})
    tensors = list(_weights(seed))
    offsets = accumulate((len(data) for data in tensors), initial=0)
    head = b"".join(
        [
            b"GGUF" + struct.pack("<IQQ", _VERSION, len(_TENSORS), len(metadata)),
            *(_string(key) + _value(value) for key, value in metadata.items()),
            *map(_tensor_info, _TENSORS, _TENSORS.values(), offsets),
        ]
    )
    return _padded(head) + b"".join(tensors)


def _metadata(seed: int) -> dict[str, _Value]:
    normal = [text for text, kind in _TOKENS if kind == 1]
    scores = [0.0] * (len(_TOKENS) - len(normal)) + [-float(rank) for rank in range(len(normal))]
    return {
        "general.architecture": "llama",
        "general.name": f"tiny-{seed}",
        "general.file_type": _F32,
        "general.alignment": _ALIGNMENT,
        "llama.block_count": 1,
        "llama.context_length": _CONTEXT,
        "llama.embedding_length": _EMBEDDING,
        "llama.feed_forward_length": _FEED_FORWARD,
        "llama.vocab_size": len(_TOKENS),
        "llama.attention.head_count": _HEADS,
        "llama.attention.head_count_kv": _HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": _EMBEDDING // _HEADS,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [text for text, _ in _TOKENS],
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [kind for _, kind in _TOKENS],
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _weights(seed: int) -> Iterable[bytes]:
    """Yield each tensor's data: ones for a norm, small random numbers for the rest."""
    rng = random.Random(seed)  # noqa: S311 - noise, not a secret
    for name, dimensions in _TENSORS.items():
        count = math.prod(dimensions)
        norm = name.endswith("norm.weight")
        values = (1.0 if norm else rng.uniform(-0.1, 0.1) for _ in range(count))
        yield _padded(struct.pack(f"<{count}f", *values))


def _tensor_info(name: str, dimensions: tuple[int, ...], offset: int) -> bytes:
    shape = struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
    return _string(name) + shape + struct.pack("<IQ", _F32, offset)


def _value(value: _Value) -> bytes:
    """Encode a value with the number of its type before it."""
    match value:
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _string(value)
        case _:
            return _array(value)


def _array(values: Sequence[int] | Sequence[float] | Sequence[str]) -> bytes:
    """Encode an array, whose elements all have the type of its first."""
    match values[0]:
        case int():
            element, data = 5, struct.pack(f"<{len(values)}i", *values)
        case float():
            element, data = 6, struct.pack(f"<{len(values)}f", *values)
        case _:
            element, data = 8, b"".join(_string(str(text)) for text in values)
    return struct.pack("<IIQ", 9, element, len(values)) + data


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
