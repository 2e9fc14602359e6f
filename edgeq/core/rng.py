"""Counter-based randomness: a draw depends on (seed, row id, step, stream) and on nothing else.

So a row's numbers do not change with the batch it sits in, the order of rows, the workers, or an interruption.
Philox 4x64-10 (Salmon et al., SC 2011), bit for bit numpy's.
"""

from __future__ import annotations

import numpy as np

_U64 = np.uint64
_LOW = _U64(0xFFFFFFFF)
_32 = _U64(32)
_MULTIPLIERS = (_U64(0xD2E7470EE14C6C93), _U64(0xCA5A826395121157))
_WEYL = (_U64(0x9E3779B97F4A7C15), _U64(0xBB67AE8584CAA73B))
_LONG = 256  # words a row from which a loop over numpy's own generator is faster than the vectorised rounds


def words(seed: int, ids: np.ndarray, step: np.ndarray | int, count: int, stream: int = 0) -> np.ndarray:
    """``(r, count) uint64`` random words for rows ``ids (r,) int64`` at ``step`` (an int, or ``(r,)`` ints).

    ``stream`` separates uses within one step. Key: (seed, id); counter: (block, step, stream, 0).
    """
    steps = np.broadcast_to(np.asarray(step), (len(ids),)).astype(_U64)
    keys = ids.astype(_U64)
    key0 = seed & 0xFFFFFFFFFFFFFFFF
    if count >= _LONG:
        return _by_numpy(key0, keys, steps, count, stream)
    blocks = np.arange(1, -(-count // 4) + 1, dtype=_U64)  # numpy steps its counter before the first block
    return _philox(key0, keys[:, None], blocks[None, :], steps[:, None], stream)[:, :count]


def bits(seed: int, ids: np.ndarray, step: np.ndarray | int, count: int, stream: int = 0) -> np.ndarray:
    """``(r, count) uint8`` of fair 0s and 1s."""
    return np.unpackbits(packed(seed, ids, step, count, stream), axis=1, count=count)


def packed(seed: int, ids: np.ndarray, step: np.ndarray | int, count: int, stream: int = 0) -> np.ndarray:
    """``(r, 8 * ceil(count / 64)) uint8``: :func:`bits` as ``np.packbits`` would pack them, an eighth of the memory."""
    return words(seed, ids, step, -(-count // 64), stream).astype("<u8", copy=False).view(np.uint8)


def uniform(seed: int, ids: np.ndarray, step: np.ndarray | int, shape: tuple[int, ...], stream: int = 0) -> np.ndarray:
    """``(r, *shape) float32`` in [0, 1), of 24 bits each."""
    count = int(np.prod(shape, dtype=int))
    raw = words(seed, ids, step, -(-count // 2), stream).astype("<u8", copy=False).view(np.uint32)[:, :count]
    return ((raw >> np.uint32(8)) * np.float32(2**-24)).reshape(len(ids), *shape)


def normal(seed: int, ids: np.ndarray, step: np.ndarray | int, shape: tuple[int, ...], stream: int = 0) -> np.ndarray:
    """``(r, *shape) float32`` standard normal deviates (Box and Muller 1958)."""
    u = uniform(seed, ids, step, (2, *shape), stream)
    return np.sqrt(-2 * np.log1p(-u[:, 0])) * np.cos(np.float32(2 * np.pi) * u[:, 1])


def _by_numpy(key0: int, keys: np.ndarray, steps: np.ndarray, count: int, stream: int) -> np.ndarray:
    source = np.random.Philox(key=np.array([key0, 0], _U64))
    state = source.state
    out = np.empty((len(keys), count), _U64)
    for row, (key, step) in enumerate(zip(keys, steps, strict=True)):
        state["state"]["key"][1] = key
        state["state"]["counter"][:] = (0, step, stream, 0)
        source.state = state
        out[row] = source.random_raw(count)
    return out


def _philox(key0: int, key1: np.ndarray, block: np.ndarray, step: np.ndarray, stream: int) -> np.ndarray:
    """Ten rounds on broadcast counters ``(r, b)``; ``(r, 4 b)`` words in numpy's order."""
    shape = np.broadcast_shapes(key1.shape, block.shape)
    c = [np.broadcast_to(block, shape), np.broadcast_to(step, shape), np.full(shape, stream, _U64), np.zeros(shape, _U64)]
    k0, k1 = np.full((1, 1), key0, _U64), key1
    for _ in range(10):
        high0, low0 = _multiply(_MULTIPLIERS[0], c[0])
        high1, low1 = _multiply(_MULTIPLIERS[1], c[2])
        c = [high1 ^ c[1] ^ k0, low1, high0 ^ c[3] ^ k1, low0]
        k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return np.stack(c, axis=-1).reshape(shape[0], -1)


def _multiply(a: np.uint64, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The high and low words of ``a * b``, by 32-bit halves."""
    a_high, a_low = a >> _32, a & _LOW
    b_high, b_low = b >> _32, b & _LOW
    middle = a_high * b_low + ((a_low * b_low) >> _32)
    middle2 = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _32) + (middle2 >> _32), a * b
