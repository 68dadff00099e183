"""Memory for logits: aligned rows, and nothing between them that could reach a result."""

import mmap

import pytest
import torch
from task_kernels.logits import empty_logits


@pytest.mark.parametrize(("num_rows", "num_classes"), [(3, 301), (5, 304), (0, 7), (700, 30_522)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_hold_the_classes_and_zeros_up_to_the_next(num_rows, num_classes, dtype):
    junk = torch.full((num_rows, num_classes + 32), torch.nan)
    del junk
    logits = empty_logits(num_rows, num_classes, torch.empty(0, dtype=dtype))
    logits.fill_(1)
    assert logits.shape == (num_rows, num_classes)
    assert logits.dtype == dtype
    assert logits.stride(0) == (num_classes if dtype == torch.float32 else -(-num_classes // 16) * 16)
    gaps = logits.as_strided((num_rows, logits.stride(0) - num_classes), logits.stride(), num_classes)
    assert torch.equal(gaps, torch.zeros_like(gaps))


def test_a_bf16_product_is_not_reached_by_what_memory_held_before():
    """An odd number of classes in bf16: oneDNN reads the column after the last."""
    weight = torch.randn(301, 8).bfloat16()
    logits = torch.randn(24, 301).bfloat16()
    expected = logits.float() @ weight.float()
    for size in range(100, 8_000, 79):
        junk = [torch.full((size,), torch.nan) for _ in range(4)]
        del junk
        copy = empty_logits(24, 301, weight)
        copy.copy_(logits)
        torch.testing.assert_close(torch.mm(copy, weight).float(), expected, rtol=1e-2, atol=0.2)


def test_a_system_without_huge_pages_has_the_logits_all_the_same(monkeypatch):
    class Refusing(mmap.mmap):
        def madvise(self, *arguments):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    assert empty_logits(700, 30_522, torch.empty(0)).shape == (700, 30_522)
