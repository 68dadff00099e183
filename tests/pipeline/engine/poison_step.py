"""Run pipeline with one micro-batch of one step gone wrong, on whichever rank computes it.

python poison_step.py loss 5 2 pretrain …        in step 5 the loss of micro-batch 2 is not a number
python poison_step.py gradient 5 2 pretrain …    its gradient is infinite, the loss is not
python poison_step.py spike 5 2 pretrain …       its losses are a thousand times as high
"""

import sys
from contextlib import contextmanager

from pipeline.__main__ import main
from pipeline.engine.step import StepRunner


@contextmanager
def poisoned(kind, bad_step, bad_index):
    healthy = StepRunner._forward

    def forward(self, step, index, batch):
        sums = healthy(self, step, index, batch)
        if kind is None or (step + 1, index) != (bad_step, bad_index):
            return sums
        if kind == "gradient":
            if sums.requires_grad:
                sums.register_hook(lambda gradient: gradient * float("inf"))
            return sums
        return sums * {"loss": float("nan"), "spike": 1_000.0}[kind]

    StepRunner._forward = forward
    yield
    StepRunner._forward = healthy


if __name__ == "__main__":
    kind, step, index = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sys.argv = ["pipeline", *sys.argv[4:]]
    with poisoned(kind, step, index):
        main()
