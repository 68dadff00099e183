"""What runs of `training_worker.py` have saved, and how far it differs."""

import json

import torch
from safetensors import safe_open
from safetensors.torch import load_file

FIRST_STEPS, ALL_STEPS = 2, 4  # as the worker saves


def checkpoint(folder, name, step=ALL_STEPS):
    return folder / name / "checkpoints" / f"step-{step:08d}"


def parameters(folder, name, step=ALL_STEPS):
    return load_file(checkpoint(folder, name, step) / "model.safetensors")


def moments(folder, name):
    """The optimizer's tensors, put together from the files of all ranks, flattened."""
    pieces = {}
    for path in sorted((checkpoint(folder, name) / "state").iterdir()):
        with safe_open(path, framework="pt") as file:
            for key, start in json.loads(file.metadata()["starts"]).items():
                pieces.setdefault(key, {})[start] = file.get_tensor(key)
    return {key: torch.cat([parts[start] for start in sorted(parts)]) for key, parts in pieces.items()}


def largest_difference(here, there):
    assert here.keys() == there.keys()
    return max(float((here[name] - there[name]).abs().max()) for name in here)
