"""What takes the time: torch.profiler over a few steps of rank 0."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

_NUM_OPERATIONS = 30


class ProfileWindow:
    """Profiles some steps of a run, and writes a trace and a table of the operations that took the most time.

    The step before the window warms the profiler up. A run that ends within the window writes what it has.

    Args:
        folder: where `steps-A-B.json.gz` (for ui.perfetto.dev) and `steps-A-B.txt` go.
        steps: first and last step, counted from 1.
        first_step: steps taken before; of a window that has begun by then the rest is profiled.
        device: what the steps run on.
    """

    def __init__(self, folder: Path, steps: tuple[int, int], first_step: int, device: torch.device) -> None:
        self._folder = folder
        self._step = first_step
        self._first, self._last = max(steps[0], first_step + 2), steps[1]
        self._on_gpu = device.type == "cuda"
        self._written: Path | None = None
        self._profile: profile | None = None
        if self._first > self._last:
            return
        gpu = [ProfilerActivity.CUDA] if self._on_gpu else []
        self._profile = profile(
            activities=[ProfilerActivity.CPU, *gpu],
            schedule=schedule(
                skip_first=self._first - 2 - first_step,
                wait=0,
                warmup=1,
                active=self._last - self._first + 1,
                repeat=1,
            ),
            on_trace_ready=self._write,
        )
        self._profile.start()

    def step_done(self) -> Path | None:
        """A step is over; the trace, if the window ended with it.

        Raises:
            OSError: the trace cannot be written.
        """
        if self._profile is None:
            return None
        self._step += 1
        if self._step < self._last:
            self._profile.step()
            return None
        return self.close()

    def close(self) -> Path | None:
        """End the window now; the trace, if a step of the window was taken.

        Raises:
            OSError: the trace cannot be written.
        """
        if self._profile is None:
            return None
        window, self._profile = self._profile, None
        window.stop()
        return self._written

    def _write(self, window: profile) -> None:
        if self._step < self._first:  # ended while it warmed up
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"steps-{self._first}-{self._step}.json.gz"
        window.export_chrome_trace(str(path))
        by = "self_device_time_total" if self._on_gpu else "self_cpu_time_total"
        table = window.key_averages().table(sort_by=by, row_limit=_NUM_OPERATIONS)
        path.with_name(f"steps-{self._first}-{self._step}.txt").write_text(table)
        self._written = path
