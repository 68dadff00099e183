"""ModernBERT: the losses of transformers' own head, and on pieces alone those of padded sequences."""

import itertools
import logging

import pytest
import torch
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from transformers import ModernBertForMaskedLM

from pipeline.config import ModelConfig
from pipeline.data.text_batch import empty_inputs
from pipeline.engine.activation_checkpointing import checkpoint_layers
from pipeline.models import attention, modernbert
from pipeline.models.attention import flash_attention_runs
from pipeline.models.modernbert import ModernBertTaskModel, modernbert_config

from .conftest import NUM_WORD_TERMS, VOCAB_SIZE

LENGTHS = {
    "longer than the window, and mixed": [150, 30, 150, 150, 97, 1, 66],
    "longer than the window, none padded": [130, 130],
    "within the window": [40, 7, 64],
}


def config_of(*, num_layers=4, **keys):
    model = ModelConfig(backbone="modernbert", size="tiny", num_layers=num_layers, **keys)
    return modernbert_config(model, VOCAB_SIZE, 128, pad_id=0)


def model_of(*, with_nsp=True, **keys):
    torch.manual_seed(0)
    return ModernBertTaskModel(config_of(**keys), NUM_WORD_TERMS, with_nsp=with_nsp)


def _varlen_attention(query, key, value, bounds_q, bounds_k, longest_q, longest_k, *, scale, window_size):
    """As torch documents `varlen_attn`, which runs on GPUs alone, in plain arithmetic."""
    assert bounds_q.dtype == bounds_k.dtype == torch.int32
    assert longest_q == longest_k == bounds_q.diff().max()
    seen = []
    for first, end in itertools.pairwise(bounds_q):
        q, k, v = (rows[first:end].transpose(0, 1) for rows in (query, key, value))
        scores = q @ k.transpose(1, 2) * scale
        distance = torch.arange(end - first) - torch.arange(end - first)[:, None]
        left, right = (end if size < 0 else size for size in window_size)
        outside = (distance < -left) | (distance > right)
        seen.append((scores.masked_fill(outside, float("-inf")).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(seen)


@pytest.fixture
def flash_attention(monkeypatch):
    """Taken wherever nothing is padded, in plain arithmetic."""
    monkeypatch.setattr(modernbert, "flash_attention_runs", lambda *_: True)
    monkeypatch.setattr(attention, "varlen_attn", _varlen_attention)


def test_sums_and_counts_are_those_of_the_transformers_head(batch_of):
    inputs = batch_of([90, 20, 55])
    model = model_of(unpad=False).eval()
    plain = ModernBertForMaskedLM(model.network.config).eval()
    plain.load_state_dict(model.network.state_dict(), strict=False)
    output = plain(inputs["input_ids"], inputs["attention_mask"])
    logits = output.logits.flatten(0, 1)[inputs["masked_positions"]]
    losses = functional.cross_entropy(logits, inputs["labels"], reduction="none")
    pairs = model.network.next_sentence(plain.model(inputs["input_ids"], inputs["attention_mask"])[0][:, 0])
    pair = functional.cross_entropy(pairs[1:], torch.tensor([0, 1]), reduction="sum")
    sums, counts = model.task_losses(inputs)
    expected = torch.zeros(NUM_WORD_TERMS).index_add(0, inputs["loss_tasks"], losses)
    torch.testing.assert_close(sums, torch.cat([expected, pair[None]]))
    assert counts.tolist() == [*torch.bincount(inputs["loss_tasks"], minlength=3).tolist(), 2]


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_pieces_alone_give_the_losses_and_gradients_of_padded_sequences(
    lengths, batch_of, losses_and_gradients
):
    inputs = batch_of(lengths)
    sums, counts, gradients = losses_and_gradients(model_of(unpad=True), inputs)
    padded_sums, padded_counts, padded_gradients = losses_and_gradients(model_of(unpad=False), inputs)
    torch.testing.assert_close(sums, padded_sums, rtol=1e-6, atol=0)
    assert counts.equal(padded_counts)
    assert gradients.keys() == padded_gradients.keys()
    for name, gradient in gradients.items():
        largest = padded_gradients[name].abs().max()
        assert (gradient - padded_gradients[name]).abs().max() <= 1e-5 * largest, name


def test_in_bf16_they_agree_to_its_precision(batch_of, losses_and_gradients):
    inputs = batch_of([150, 30, 97])
    found = [losses_and_gradients(model_of(unpad=unpad).bfloat16(), inputs) for unpad in (True, False)]
    (sums, _, gradients), (padded_sums, _, padded_gradients) = found
    torch.testing.assert_close(sums, padded_sums, rtol=2e-3, atol=0)
    for name, gradient in gradients.items():
        difference = (gradient - padded_gradients[name]).float().norm()
        assert difference <= 0.03 * padded_gradients[name].float().norm(), name


@pytest.mark.parametrize("unpad", [True, False])
def test_scores_add_up_to_the_sums(unpad, batch_of):
    inputs = batch_of([90, 20, 55])
    model = model_of(unpad=unpad).eval()
    scores = model.scores(inputs)
    sums, counts = model.task_losses(inputs)
    pairs = torch.full((len(scores.losses) - len(inputs["labels"]),), 3)
    terms = torch.cat([inputs["loss_tasks"], pairs])
    torch.testing.assert_close(torch.zeros(4).index_add(0, terms, scores.losses), sums)
    assert torch.bincount(terms, minlength=4).tolist() == counts.tolist()


@pytest.mark.parametrize("unpad", [True, False])
def test_a_local_layer_sees_64_pieces_to_either_side_and_no_more(unpad, batch_of):
    _check_reach_of_a_local_layer(unpad, batch_of([140, 30]))


def test_so_it_does_by_flash_attention(flash_attention, batch_of):
    _check_reach_of_a_local_layer(True, batch_of([140, 30]))


def _check_reach_of_a_local_layer(unpad, inputs):
    config = config_of(num_layers=1, unpad=unpad)
    config.layer_types = ["sliding_attention"]
    torch.manual_seed(0)
    model = ModernBertTaskModel(config, NUM_WORD_TERMS, with_nsp=False).eval()
    inputs |= {"masked_positions": torch.tensor([70]), "labels": torch.tensor([9])}
    inputs |= {"loss_tasks": torch.tensor([0])}

    def loss(*changed):
        other = inputs["input_ids"].clone()
        other[0, list(changed)] = 7
        return model.task_losses(inputs | {"input_ids": other})[0][0].item()

    assert loss(6) != loss() != loss(134)
    assert loss(5, 135) == loss()


@pytest.mark.parametrize("unpad", [True, False])
def test_an_empty_micro_batch_gives_zeros_and_gradients_of_zero(unpad, losses_and_gradients):
    model = model_of(unpad=unpad)
    sums, counts, gradients = losses_and_gradients(model, empty_inputs(pad_id=0))
    assert sums.tolist() == counts.tolist() == [0, 0, 0, 0]
    assert gradients.keys() == dict(model.named_parameters()).keys()
    assert all((gradient == 0).all() for gradient in gradients.values())


def test_checkpointed_activations_change_no_gradient(batch_of, losses_and_gradients):
    inputs = batch_of([150, 30, 97])
    model = model_of(unpad=True)
    sums, _, gradients = losses_and_gradients(model, inputs)
    times = []
    for layer in model.layers():
        layer.attn.register_forward_pre_hook(lambda *_: times.append(1))
    checkpoint_layers(model.layers(), {"activation_checkpointing": {}})
    again, _, checkpointed = losses_and_gradients(model, inputs)
    assert len(times) == 2 * len(model.layers())
    assert again.equal(sums)
    assert checkpointed.keys() == gradients.keys()
    assert all(checkpointed[name].equal(gradient) for name, gradient in gradients.items())


def test_compiled_layers_break_at_attention_alone_and_batches_of_other_lengths_compile_nothing_anew(
    batch_of, losses_and_gradients
):
    torch.compiler.reset()
    counters.clear()
    model = model_of(unpad=True)
    expected = [losses_and_gradients(model, batch_of(lengths))[0] for lengths in LENGTHS.values()]
    for layer in model.layers():
        layer.forward = torch.compile(layer.forward, dynamic=True, backend="eager")
    num_graphs = []
    for lengths, sums in zip(LENGTHS.values(), expected, strict=True):
        torch.testing.assert_close(losses_and_gradients(model, batch_of(lengths))[0], sums)
        num_graphs.append(counters["stats"]["unique_graphs"])
    assert num_graphs == [num_graphs[0]] * len(LENGTHS) != [0] * len(LENGTHS)
    assert all("unpadded_attention" in reason for reason in counters["graph_break"])


@pytest.mark.parametrize("unpad", [True, False])
def test_a_model_says_once_how_attention_is_computed_whatever_another_one_has_said(unpad, batch_of, caplog):
    inputs = batch_of([40, 7])
    model_of(unpad=unpad).task_losses(inputs)
    model = model_of(unpad=unpad)
    with caplog.at_level(logging.INFO, logger="pipeline.models"):
        model.task_losses(inputs)
        model.task_losses(inputs)
    expected = "SDPA without padding" if unpad else "SDPA on padded sequences"
    assert caplog.messages == [f"attention: {expected}"]


def test_muon_is_told_of_the_matrices_that_lie_in_one_weight():
    model = model_of(num_layers=1)
    names = {id(parameter): name for name, parameter in model.layers()[0].named_parameters()}
    found = {names[id(parameter)]: number for parameter, number in model.hidden_matrices().items()}
    in_one = {"attn.Wqkv.weight": 3, "mlp.Wi.weight": 2}
    assert found == in_one | {"attn.Wo.weight": 1, "mlp.Wo.weight": 1}


def test_the_network_by_itself_reads_padded_sequences_as_transformers_does(batch_of):
    inputs = batch_of([150, 30])
    ours = model_of(unpad=True).network.eval()
    theirs = model_of(unpad=False).network.eval()
    read = [network(inputs["input_ids"], inputs["attention_mask"]).logits for network in (ours, theirs)]
    assert read[0].equal(read[1])


def test_parameters_have_the_names_and_tie_of_transformers_but_for_the_next_sentence_head():
    expected = ModernBertForMaskedLM(config_of()).state_dict().keys()
    network = model_of().network
    own = {"dense.weight", "dense.bias", "classifier.weight", "classifier.bias"}
    assert network.state_dict().keys() - expected == {f"next_sentence.{name}" for name in own}
    assert model_of(with_nsp=False).network.state_dict().keys() == expected
    assert network.decoder.weight is network.model.embeddings.tok_embeddings.weight


def test_dropout_is_that_of_the_run_file_and_else_none():
    parts = ("embedding_dropout", "attention_dropout", "mlp_dropout")
    assert [getattr(config_of(), part) for part in parts] == [0, 0, 0]
    assert [getattr(config_of(dropout=0.2), part) for part in parts] == [0.2, 0.2, 0.2]


@pytest.mark.parametrize(
    ("keys", "unpads"), [({}, True), ({"dropout": 0.1}, False), ({"dropout": 0.1, "unpad": True}, True)]
)
def test_pieces_alone_are_the_default_without_dropout(keys, unpads):
    assert (config_of(**keys)._attn_implementation == attention.UNPADDED) == unpads


def test_dropout_on_pieces_alone_is_a_function_of_the_seed(batch_of):
    model, inputs = model_of(dropout=0.2, unpad=True).train(), batch_of([150, 30])

    def losses(seed):
        torch.manual_seed(seed)
        return model.task_losses(inputs)[0]

    assert losses(1).equal(losses(1))
    assert not losses(1).equal(losses(2))


def test_flash_attention_is_given_what_gives_the_same_losses(flash_attention, batch_of):
    inputs = batch_of([150, 30, 150, 97, 1])
    expected, _ = model_of(unpad=False).task_losses(inputs)
    sums, _ = model_of(unpad=True).task_losses(inputs)
    torch.testing.assert_close(sums, expected, rtol=1e-5, atol=0)


def test_torchs_flash_attention_takes_the_call_and_its_backward_pass(monkeypatch, batch_of):
    """Without a GPU it has shapes and no values."""
    monkeypatch.setattr(modernbert, "flash_attention_runs", lambda *_: True)
    inputs, model = batch_of([150, 30]), model_of(unpad=True)
    with FakeTensorMode(allow_non_fake_inputs=True) as shapes:
        fake = {name: shapes.from_tensor(tensor) for name, tensor in inputs.items()}
        words, first = model.encode(fake)
        (words.sum() + first.sum()).backward()
    assert words.shape == (len(inputs["labels"]), 128)
    assert first.shape == (2, 128)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_flash_attention_gives_the_losses_of_sdpa_on_a_gpu(monkeypatch, batch_of):
    inputs = {name: tensor.cuda() for name, tensor in batch_of([150, 30, 150, 97, 1]).items()}
    model = model_of(unpad=True).bfloat16().cuda()
    assert flash_attention_runs(torch.device("cuda"), torch.bfloat16, 64, 0.0)
    sums, _ = model.task_losses(inputs)
    monkeypatch.setattr(modernbert, "flash_attention_runs", lambda *_: False)
    expected, _ = model.task_losses(inputs)
    torch.testing.assert_close(sums, expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    "given",
    [
        (torch.device("cpu"), torch.bfloat16, 64, 0.0),
        (torch.device("cuda"), torch.float32, 64, 0.0),
        (torch.device("cuda"), torch.bfloat16, 64, 0.1),
        (torch.device("cuda"), torch.bfloat16, 20, 0.0),
    ],
    ids=["CPU", "fp32", "dropout", "odd heads"],
)
def test_flash_attention_is_left_where_it_cannot_run(given):
    assert not flash_attention_runs(*given)
