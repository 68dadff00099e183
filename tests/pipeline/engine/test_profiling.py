"""The profiler's window over a run's steps."""

import gzip
import json
import re

import pytest
import torch

from pipeline.engine.profiling import ProfileWindow


@pytest.fixture
def profile(tmp_path):
    """Runs steps up to `last`, of which step k multiplies k × k matrices; the sizes found per trace."""

    def profile(steps, first_step, last):
        window = ProfileWindow(tmp_path / "profile", steps, first_step, torch.device("cpu"))
        for number in range(first_step + 1, last + 1):
            for _ in range(number):
                torch.ones(2, 2) @ torch.ones(2, 2)
            window.step_done()
        window.close()
        return {path.name: path for path in sorted(tmp_path.glob("profile/*"))}

    return profile


def num_products(trace):
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    return sum(event.get("name") == "aten::mm" for event in events)


@pytest.mark.parametrize(
    ("steps", "first_step", "last", "name", "products"),
    [
        ((3, 4), 0, 9, "steps-3-4", 3 + 4),
        ((2, 2), 0, 2, "steps-2-2", 2),
        ((6, 7), 4, 9, "steps-6-7", 6 + 7),  # goes on before the window
        ((3, 7), 4, 9, "steps-6-7", 6 + 7),  # goes on within it: step 5 warms up
        ((5, 90), 0, 6, "steps-5-6", 5 + 6),  # ends within it
    ],
)
def test_the_trace_holds_the_steps_of_its_name_and_no_others(
    profile, steps, first_step, last, name, products
):
    files = profile(steps, first_step, last)
    assert set(files) == {f"{name}.json.gz", f"{name}.txt"}
    assert num_products(files[f"{name}.json.gz"]) == products
    assert re.search(rf"aten::mm .* {products} *$", files[f"{name}.txt"].read_text(), re.MULTILINE)


@pytest.mark.parametrize(("steps", "first_step", "last"), [((3, 4), 4, 9), ((7, 9), 0, 5), ((7, 9), 0, 6)])
def test_a_window_that_is_over_or_not_reached_leaves_nothing(profile, steps, first_step, last):
    assert profile(steps, first_step, last) == {}
