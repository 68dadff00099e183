"""BERT's losses at masked positions equal those of the whole head of transformers."""

import pytest
import torch
from torch.nn import functional
from transformers import BertForPreTraining

from pipeline.config import ModelConfig
from pipeline.models.bert import BertTaskModel, bert_config

CONFIG = bert_config(ModelConfig(size="tiny", dropout=0.0), vocab_size=50, sequence_length=16, pad_id=0)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    return {
        "input_ids": torch.randint(5, 50, (3, 12), generator=generator),
        "token_type_ids": torch.zeros(3, 12, dtype=torch.long),
        "attention_mask": torch.ones(3, 12, dtype=torch.long),
        "masked_positions": torch.tensor([1, 14, 15, 30]),
        "labels": torch.tensor([7, 8, 9, 10]),
        "loss_tasks": torch.tensor([0, 2, 2, 1]),
        "next_sentence_label": torch.tensor([0, 1, -1]),
    }


def test_sums_and_counts_are_those_of_the_transformers_heads(inputs):
    model = BertTaskModel(CONFIG, 3, with_nsp=True).eval()
    plain = BertForPreTraining(CONFIG).eval()
    plain.load_state_dict(model.network.state_dict())
    output = plain(**{name: inputs[name] for name in ("input_ids", "token_type_ids", "attention_mask")})
    logits = output.prediction_logits.flatten(0, 1)[inputs["masked_positions"]]
    losses = functional.cross_entropy(logits, inputs["labels"], reduction="none")
    pair = functional.cross_entropy(output.seq_relationship_logits[:2], torch.tensor([0, 1]), reduction="sum")
    sums, counts = model.task_losses(inputs)
    expected = torch.stack([losses[0], losses[3], losses[1] + losses[2], pair])
    torch.testing.assert_close(sums, expected)
    assert counts.tolist() == [1, 1, 2, 2]


def test_scores_add_up_to_the_sums(inputs):
    model = BertTaskModel(CONFIG, 3, with_nsp=True).eval()
    scores = model.scores(inputs)
    sums, counts = model.task_losses(inputs)
    pairs = torch.full((len(scores.losses) - len(inputs["labels"]),), 3)
    terms = torch.cat([inputs["loss_tasks"], pairs])
    torch.testing.assert_close(torch.zeros(4).index_add(0, terms, scores.losses), sums)
    assert torch.bincount(terms, minlength=4).tolist() == counts.tolist()


def test_parameters_have_the_names_and_tie_of_transformers():
    model = BertTaskModel(CONFIG, 3, with_nsp=True)
    assert model.network.state_dict().keys() == BertForPreTraining(CONFIG).state_dict().keys()
    embedding = model.network.bert.embeddings.word_embeddings.weight
    assert model.network.cls.predictions.decoder.weight is embedding


def test_without_next_sentence_prediction_its_head_is_not_trained(inputs):
    model = BertTaskModel(CONFIG, 3, with_nsp=False)
    sums, _ = model.task_losses(inputs)
    assert len(sums) == 3
    frozen = {name for name, p in model.network.named_parameters() if not p.requires_grad}
    assert {name.rsplit(".", 1)[0] for name in frozen} == {"bert.pooler.dense", "cls.seq_relationship"}


@pytest.mark.parametrize(("given", "expected"), [(None, 0.1), (0.0, 0.0), (0.3, 0.3)])
def test_dropout_is_that_of_the_run_file_and_else_a_tenth(given, expected):
    config = bert_config(ModelConfig(size="tiny", dropout=given), 50, 16, 0)
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == expected
