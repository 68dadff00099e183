"""What is counted without data is what the real model does."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.assembly import build_model, text_data, text_recipe
from pipeline.plan.simulation import count_flops, count_parameters, count_pass, without_data
from pipeline.plan.text_case import planned_case
from pipeline.run_file import load_config

from .conftest import CONFIGS

MODERNBERT = "model.backbone=modernbert"
CHECKPOINTING = CONFIGS.parent / "ds_configs" / "zero2-checkpointing.json"


@pytest.fixture
def config_of(shards):
    def load(*keys):
        return load_config(CONFIGS / "tiny.yaml", [f"data.path={shards}", "model.vocab_size=8000", *keys])

    return load


@pytest.fixture
def config(config_of):
    return config_of()


@pytest.mark.parametrize(
    "keys", [[], [MODERNBERT, "model.unpad=false"]], ids=["bert", "modernbert on padded sequences"]
)
def test_flops_are_those_that_torch_counts_on_the_real_model_and_batch(keys, config_of):
    config = config_of(*keys)
    inputs = text_data(config).micro_batch(0, 0).inputs
    inputs["attention_mask"][0, -1] = 0
    _compare_flops(config, inputs)


def test_flops_of_pieces_alone_are_those_of_full_sequences(config_of):
    config = config_of(MODERNBERT, "batch.global_size=1", "batch.micro_size=1")  # so none is padded
    _compare_flops(config, text_data(config).micro_batch(0, 0).inputs)


def _compare_flops(config, inputs):
    model = build_model(config, text_recipe(config, text_data(config).shards))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        sums, _ = model.train().task_losses(inputs)
        forward_flops = counter.get_total_flops()
        sums.sum().backward()
    case = planned_case(config, None)

    def same_shapes(keep_logits):
        return case.make(keep_logits)[0], {name: torch.zeros_like(value) for name, value in inputs.items()}

    counts = count_pass(same_shapes, torch.float32, "cpu")
    assert counts.flops == counts.hardware_flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert counts.forward_flops == pytest.approx(forward_flops, rel=0.01)


@pytest.mark.parametrize("unpad", ["true", "false"])
def test_local_layers_count_in_model_flops_what_they_see_and_in_those_of_the_hardware_everything(unpad):
    keys = ["data.path=none", "batch.micro_size=2", "batch.global_size=2", MODERNBERT, "model.num_layers=4"]
    config = load_config(CONFIGS / "tiny.yaml", [*keys, f"model.unpad={unpad}", "model.vocab_size=200"])
    make = planned_case(config, 300).make
    counts = count_pass(make, torch.float32, "cpu")
    places = torch.arange(300)
    num_unseen = int(((places[:, None] - places).abs() > 64).sum())
    unseen_flops = 2 * 4 * 128 * 2 * num_unseen  # sequences × (2 products × 2) × width × local layers
    assert counts.hardware_flops - counts.flops == 3 * unseen_flops
    assert count_flops(make) == (counts.forward_flops - unseen_flops, counts.flops)


def test_masked_pieces_are_those_of_real_batches_but_for_words_of_several_pieces(config):
    case = planned_case(config, None)
    data = text_data(config)
    batches = [data.micro_batch(step, 0).inputs["masked_positions"] for step in range(10)]
    masked = sum(map(len, batches)) / len(batches)
    assert 0.6 * masked < case.num_masked < 1.05 * masked
    assert masked < config.masking.rate * config.batch.micro_size * case.sequence_length / 2


@pytest.mark.parametrize("keys", [[], [MODERNBERT], [MODERNBERT, "objective.nsp=off"]])
def test_parameters_are_those_of_the_real_model(keys, config_of):
    config = config_of(*keys)
    model = build_model(config, text_recipe(config, text_data(config).shards))
    with without_data(torch.float32):
        counted = count_parameters(planned_case(config, None).make(False)[0].network)
    assert counted == count_parameters(model.network)


def test_parameters_that_no_loss_reaches_are_not_trained():
    config = load_config(CONFIGS / "tiny.yaml", ["data.path=none", "objective.nsp=off"])
    with torch.device("meta"):
        counted = count_parameters(planned_case(config, None).make(False)[0].network)
    assert counted.num_all - counted.num_trained == 128 * 128 + 128 + 2 * 128 + 2  # pooler and its head


@pytest.mark.parametrize("device, growth", [("gpu", 2.0), ("cpu", 2.8)])
def test_only_a_cpu_keeps_score_matrices(device, growth):
    def activations(length):
        config = load_config(CONFIGS / "tiny.yaml", ["data.path=none", "model.vocab_size=200"])
        return count_pass(planned_case(config, length).make, torch.float32, device).activation_bytes

    assert activations(512) / activations(256) == pytest.approx(growth, rel=0.1)


def test_logits_of_more_than_two_gibibytes_are_not_kept_and_count_once():
    config = load_config(CONFIGS / "tiny.yaml", ["data.path=none", "model.vocab_size=2000000"])
    case = planned_case(config, None)
    logits_bytes = 4 * case.num_masked * 2_000_000
    counts = count_pass(case.make, torch.float32, "gpu")
    gradient_bytes = 4 * 128 * 2_000_000
    assert logits_bytes > 2 * 1024**3
    assert counts.activation_bytes < logits_bytes + gradient_bytes
    assert counts.flops > 6 * case.num_masked * 2_000_000 * 128  # what is computed twice for that counts once
    assert counts.flops < 1.05 * 6 * case.num_masked * 2_000_000 * 128


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_layers_that_run_again_cost_their_forward_pass_and_keep_their_inputs_alone(device, plan_of):
    keys = ["model.size=small", "model.vocab_size=200"]
    usual = plan_of("tiny", keys, device=device).counts
    again = plan_of("tiny", [*keys, f"deepspeed={CHECKPOINTING}"], device=device).counts
    assert (again.flops, again.forward_flops) == (usual.flops, usual.forward_flops)
    assert usual.hardware_flops == usual.flops
    # Nearly all of a forward pass is in the layers; the last product of a layer need not be repeated.
    assert 0.6 < (again.hardware_flops - again.flops) / again.forward_flops < 1
    assert again.activation_bytes < 0.5 * usual.activation_bytes
