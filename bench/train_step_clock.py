"""Where the time of a training step goes, whoever runs the step."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

DATA = "data"
ENCODER_FORWARD, HEAD_FORWARD = "encoder, forward", "head and loss, forward"
HEAD_BACKWARD, ENCODER_BACKWARD = "head and loss, backward", "encoder, backward"
OPTIMIZER = "optimizer"
REST = "engine and loop"
REGIONS = (DATA, ENCODER_FORWARD, HEAD_FORWARD, HEAD_BACKWARD, ENCODER_BACKWARD, OPTIMIZER, REST)
HEAD = (HEAD_FORWARD, HEAD_BACKWARD)


class Clock:
    """Splits the steps between `start` and `stop` into regions that add up to them, to the last second.

    The encoder's backward begins when the gradient of its output is complete. What an engine does in hooks
    of parameters falls into the backward in which they run.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        """Seconds of each region, a map for each step."""
        self.cpu_s: list[float] = []
        """Of each step, CPU seconds of all threads: other work on the machine disturbs them least."""
        self._now: dict[str, float] = {}
        self._region = REST
        self._since = self._cpu_since = 0.0
        self._backward = Tensor.backward

    def start(self) -> None:
        """Begin a step."""
        self._now, self._region = dict.fromkeys(REGIONS, 0.0), REST
        self._backward = Tensor.backward
        # DeepSpeed, accelerate and plain loops all come by here.
        Tensor.backward = self.timed(HEAD_BACKWARD, Tensor.backward)  # type: ignore[method-assign]
        self._cpu_since = time.process_time()
        self._since = time.perf_counter()

    def stop(self) -> None:
        """End it."""
        self.switch(REST)
        Tensor.backward = self._backward  # type: ignore[method-assign]
        self.cpu_s.append(time.process_time() - self._cpu_since)
        self.steps.append(self._now)

    def switch(self, region: str) -> str:
        """Enter a region; the one that ends."""
        now, left = time.perf_counter(), self._region
        if self._now:
            self._now[left] += now - self._since
        self._region, self._since = region, now
        return left

    @contextmanager
    def within(self, region: str) -> Iterator[None]:
        """A region, then again the one before."""
        before = self.switch(region)
        try:
            yield
        finally:
            self.switch(before)

    def timed(self, region: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` as a region."""

        def call(*arguments: Any, **named: Any) -> Any:
            with self.within(region):
                return function(*arguments, **named)

        return call

    def watch_model(self, model: nn.Module, encoder: nn.Module) -> None:
        """`model` returns losses, and `encoder`, a part of it, hidden states as its first output."""

        def encoded(_module: nn.Module, _inputs: object, outputs: Any) -> None:
            self.switch(HEAD_FORWARD)
            if outputs[0].requires_grad:
                outputs[0].register_hook(lambda _gradient: self._enter(ENCODER_BACKWARD))

        encoder.register_forward_pre_hook(lambda _module, _inputs: self._enter(ENCODER_FORWARD))
        encoder.register_forward_hook(encoded)
        model.register_forward_hook(lambda _module, _inputs, _outputs: self._enter(REST))

    def watch_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """`optimizer` is torch's own, below all that wraps it."""
        optimizer.register_step_pre_hook(lambda *_: self._enter(OPTIMIZER))
        optimizer.register_step_post_hook(lambda *_: self._enter(REST))

    def _enter(self, region: str) -> None:
        """For hooks, whose result would be taken for a changed input."""
        self.switch(region)
