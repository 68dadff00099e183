"""The passes over rows of logits in plain torch: where there is no compiled operator, and its twin in tests.

Rows are taken a few at a time, so that what is made of them stays in the cache.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

_CHUNK_BYTES = 16 * 1024**2


def softmax_minus_onehot_(logits: Tensor, bias: Tensor | None, labels: Tensor, losses: Tensor) -> None:
    """Turn logits [N, V] into softmax(logits + bias) − onehot(labels); write losses [N] fp32."""
    for rows in _chunks(logits):
        x = _fp32_(logits[rows], bias)
        label = labels[rows, None]
        label_logits = x.gather(1, label)
        peaks = x.amax(dim=1, keepdim=True)
        sums = x.sub_(peaks).exp_().sum(dim=1, keepdim=True)
        losses[rows] = (sums.log() + (peaks - label_logits))[:, 0]
        x.div_(sums).scatter_add_(1, label, x.new_full(label.shape, -1.0))
        logits[rows] = x


def add_log_sum_exp_(
    logits: Tensor, bias: Tensor | None, labels: Tensor, peaks: Tensor, sums: Tensor, label_logits: Tensor
) -> None:
    """Take more columns, logits [N, v], into peaks + log(sums), each [N] fp32.

    `labels` count from the first of these columns; a label among them has its logit written.
    """
    for rows in _chunks(logits):
        x = _fp32(logits[rows], bias)
        here = (labels[rows] >= 0) & (labels[rows] < x.shape[1])
        label_logits[rows] = torch.where(here, _at(x, labels[rows]), label_logits[rows])
        peak = torch.maximum(peaks[rows], x.amax(dim=1))
        shift = torch.where(peak == -torch.inf, 0.0, peak)
        sums[rows] = sums[rows] * (peaks[rows] - shift).exp() + x.sub_(shift[:, None]).exp_().sum(dim=1)
        peaks[rows] = peak


def gradient_(logits: Tensor, bias: Tensor | None, labels: Tensor, log_sum_exps: Tensor) -> None:
    """Turn logits [N, v] into exp(logits + bias − log_sum_exps) − onehot(labels)."""
    for rows in _chunks(logits):
        share = _fp32_(logits[rows], bias).sub_(log_sum_exps[rows, None]).exp_()
        here = (labels[rows] >= 0) & (labels[rows] < share.shape[1])
        label = labels[rows].clamp(0, share.shape[1] - 1)[:, None]
        share.scatter_add_(1, label, -here.float()[:, None])
        logits[rows] = share


def _chunks(logits: Tensor) -> Iterator[slice]:
    num_rows, num_classes = logits.shape
    step = max(1, _CHUNK_BYTES // (4 * num_classes))
    return (slice(first, first + step) for first in range(0, num_rows, step))


def _fp32(logits: Tensor, bias: Tensor | None) -> Tensor:
    """Logits + bias as new memory."""
    return logits.to(torch.float32, copy=True) if bias is None else logits + bias


def _fp32_(logits: Tensor, bias: Tensor | None) -> Tensor:
    """Logits + bias, where they stand if they are fp32."""
    if logits.dtype != torch.float32:
        return _fp32(logits, bias)
    return logits if bias is None else logits.add_(bias)


def _at(x: Tensor, labels: Tensor) -> Tensor:
    """The element of each row at its label, or some other one where that is none of the columns."""
    return x.gather(1, labels.clamp(0, x.shape[1] - 1)[:, None])[:, 0]
