"""The smallest kernel that shows whether Triton compiles. It has a file since Triton reads its source."""

import triton
import triton.language as tl


@triton.jit
def double(source, target, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    """target[i] = 2 · source[i] for i < SIZE, a power of two."""
    places = tl.arange(0, SIZE)
    tl.store(target + places, 2 * tl.load(source + places))
