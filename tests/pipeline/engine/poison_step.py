"""Run pipeline with steps that go wrong, on whichever rank computes the micro-batch.

python poison_step.py loss 5 2 pretrain …        in step 5 the loss of micro-batch 2 is not a number
python poison_step.py gradient 5 2 pretrain …    its gradient is infinite, the loss is not
python poison_step.py spike 5 2 pretrain …       its losses are a thousand times as high
python poison_step.py explosion 5 2 pretrain …   the update of step 5 makes parameters that give no number
"""

import sys
from contextlib import contextmanager

from pipeline.__main__ import main
from pipeline.engine.step import StepRunner


@contextmanager
def poisoned(kind, bad_steps, bad_index):
    healthy_forward, healthy_run = StepRunner._forward, StepRunner.run

    def forward(self, step, index, batch):
        sums = healthy_forward(self, step, index, batch)
        if step + 1 not in bad_steps or index != bad_index:
            return sums
        if kind == "gradient" and sums.requires_grad:
            sums.register_hook(lambda gradient: gradient * float("inf"))
        return sums * {"loss": float("nan"), "spike": 1_000.0}.get(kind, 1.0)

    def run(self, step, **named):
        if kind == "explosion" and step + 1 in bad_steps:
            for group in self._engine.optimizer.param_groups:
                group["lr"] = 1e30
        return healthy_run(self, step, **named)

    StepRunner._forward, StepRunner.run = forward, run
    yield
    StepRunner._forward, StepRunner.run = healthy_forward, healthy_run


if __name__ == "__main__":
    kind, step, index = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sys.argv = ["pipeline", *sys.argv[4:]]
    with poisoned(kind, [step], index):
        main()
