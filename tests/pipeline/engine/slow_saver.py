"""Run pipeline with a writing thread that begins only when the next step is done."""

import threading

from pipeline.__main__ import main
from pipeline.engine import saving
from pipeline.engine.step import StepRunner

LONGEST_S = 5  # after the last step no other comes
done = threading.Condition()
num_steps = 0


def run(self, step, **named):
    global num_steps
    result = healthy_run(self, step, **named)
    with done:
        num_steps += 1
        done.notify_all()
    return result


def write_pieces(path, pieces):
    with done:
        before = num_steps
        done.wait_for(lambda: num_steps > before, LONGEST_S)
    prompt(path, pieces)


if __name__ == "__main__":
    healthy_run, StepRunner.run = StepRunner.run, run
    prompt, saving.write_pieces = saving.write_pieces, write_pieces
    main()
