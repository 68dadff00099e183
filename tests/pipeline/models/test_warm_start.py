"""A folder's architecture, parameters and tokenizer become those of the run, or it is refused."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
)

from data_prep.errors import UserError
from pipeline.assembly import build_model, text_data, text_recipe
from pipeline.config import RunConfig
from pipeline.engine.preflight import disagreement, facts_of
from pipeline.models.hf_folder import weight_files
from pipeline.models.warm_start import load_folder
from pipeline.plan.text_case import planned_case

WORD_HEAD = [
    "cls.predictions",
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
]
PAIR_HEAD = ["bert.pooler.dense", "cls.seq_relationship"]


@pytest.fixture
def run_config(shards):
    def make(folder, **model):
        return RunConfig.model_validate(
            {
                **{"name": "x", "steps": 3, "data": {"path": shards}},
                "batch": {"global_size": 12, "micro_size": 12},
                "model": {"init_from": folder, **model},
            }
        )

    return make


@pytest.fixture
def started(run_config):
    """The model of a run that starts from a folder, and what became of the folder's parameters."""

    def start(folder, **model):
        config = run_config(folder, **model)
        recipe = text_recipe(config, text_data(config).shards)
        torch.manual_seed(config.seed)
        model = build_model(config, recipe)
        return model, load_folder(model.network, folder)

    return start


@pytest.fixture
def refusal(run_config):
    """The line with which a folder is refused."""

    def refusal(folder, **model):
        with pytest.raises(UserError) as refused:
            config = run_config(folder, **model)
            recipe = text_recipe(config, text_data(config).shards)
            load_folder(build_model(config, recipe).network, folder)
        return str(refused.value)

    return refusal


FOLDERS = {
    "pre-training": (BertForPreTraining, {}, [], []),
    "in several files": (BertForPreTraining, {"max_shard_size": "20KB"}, [], []),
    "in half precision": (BertForPreTraining, {"dtype": torch.float16}, [], []),
    "the encoder alone": (BertModel, {}, [*WORD_HEAD, PAIR_HEAD[1]], []),
    "masked words": (BertForMaskedLM, {}, PAIR_HEAD, []),
    "fine-tuned": (BertForSequenceClassification, {}, [*WORD_HEAD, PAIR_HEAD[1]], ["classifier"]),
}


@pytest.mark.parametrize(("architecture", "how", "initialised", "unused"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_gives_what_it_has_and_the_seed_the_rest(
    hf_folder, started, bert_settings, architecture, how, initialised, unused
):
    folder = hf_folder(architecture, **how)
    assert len(weight_files(folder)) > 1 or "max_shard_size" not in how
    assert all(
        t.dtype == how.get("dtype", torch.float32) for t in load_file(weight_files(folder)[0]).values()
    )
    model, loaded = started(folder)
    assert sorted(loaded.initialised) == sorted(initialised)
    assert loaded.unused == unused
    saved = {}
    for file in weight_files(folder):
        saved |= {name.removeprefix("bert."): tensor for name, tensor in load_file(file).items()}
    torch.manual_seed(0)
    fresh = dict(BertForPreTraining(model.network.config).named_parameters())
    for name, parameter in model.network.named_parameters():
        is_fresh = name.rpartition(".")[0] in initialised
        expected = fresh[name] if is_fresh else saved[name.removeprefix("bert.")].float()
        assert torch.equal(parameter, expected), name
        assert parameter.dtype == torch.float32


def test_names_of_2018_and_a_copy_of_the_tied_weight_are_understood(hf_folder, started):
    folder = hf_folder()
    now = load_file(folder / "model.safetensors")
    then = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for name, t in now.items()
    }
    then["cls.predictions.decoder.weight"] = now["bert.embeddings.word_embeddings.weight"].clone()
    then["cls.predictions.decoder.bias"] = now["cls.predictions.bias"].clone()
    then["bert.embeddings.position_ids"] = torch.arange(64)[None]
    save_file(then, folder / "model.safetensors")
    model, loaded = started(folder)
    assert (loaded.initialised, loaded.unused) == ([], [])
    parameters = dict(model.network.named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in now.items())
    assert any("gamma" in name for name in then)


def test_the_losses_of_the_first_step_are_those_of_the_folders_own_model(hf_folder, started, run_config):
    folder = hf_folder()
    inputs = text_data(run_config(folder)).micro_batch(0, 0).inputs
    sums, counts = started(folder)[0].eval().task_losses(inputs)
    theirs = BertForPreTraining.from_pretrained(folder).eval()
    output = theirs(**{name: inputs[name] for name in ("input_ids", "token_type_ids", "attention_mask")})
    logits = output.prediction_logits.flatten(0, 1)[inputs["masked_positions"]]
    losses = functional.cross_entropy(logits, inputs["labels"], reduction="none")
    pair = functional.cross_entropy(output.seq_relationship_logits, inputs["next_sentence_label"])
    expected = torch.zeros(len(sums) - 1).index_add(0, inputs["loss_tasks"], losses)
    torch.testing.assert_close(sums[:-1], expected)
    torch.testing.assert_close(sums[-1] / counts[-1], pair)
    assert counts[:-1].sum() == len(losses) > 20


def test_the_architecture_is_the_folders_and_the_dropout_the_run_files(hf_folder, started, bert_settings):
    folder = hf_folder(attention_probs_dropout_prob=0.4)
    config = started(folder, dropout=0.25)[0].network.config
    assert {name: getattr(config, name) for name in bert_settings} == bert_settings
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.25, 0.25)


@pytest.mark.parametrize("given", [{"hidden_size": 24}, {"num_layers": 3, "num_heads": 2}])
def test_dimensions_may_be_given_if_they_are_the_folders(hf_folder, started, given):
    assert started(hf_folder(), **given)[0].network.config.hidden_size == 24


def test_a_size_may_be_given_if_it_is_the_folders(hf_folder, started):
    folder = hf_folder(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)
    assert started(folder, size="tiny")[0].network.config.hidden_size == 128


DIMENSIONS = {
    "a width": ({"hidden_size": 32}, ["model.hidden_size is 32", "has 24; leave it out"]),
    "a depth": ({"num_layers": 2}, ["model.num_layers is 2", "has 3"]),
    "a size": ({"size": "tiny"}, ["model.size tiny has num_hidden_layers 2", "has 3", "model.size=null"]),
    "a vocabulary": ({"vocab_size": 2_000}, ["model.vocab_size is 2000", "has 1003"]),
}


@pytest.mark.parametrize(("model", "expected"), DIMENSIONS.values(), ids=DIMENSIONS)
def test_other_dimensions_than_the_folders_are_refused(hf_folder, refusal, model, expected):
    folder = hf_folder()
    said = refusal(folder, **model)
    for part in [*expected, f"{folder}/config.json"]:
        assert part in said


SETTINGS = {
    "few positions": ({"max_position_embeddings": 40}, ["is 40, sequences have 48", "--sequence-length"]),
    "few pieces": ({"vocab_size": 900}, ["vocab_size is 900, its tokenizer has 1000"]),
    "one segment": ({"type_vocab_size": 1}, ["type_vocab_size is 1", "--no-nsp"]),
    "an output layer of its own": ({"tie_word_embeddings": False}, ["tie_word_embeddings is false"]),
    "a decoder": ({"is_decoder": True}, ["is_decoder is true"]),
}


@pytest.mark.parametrize(("settings", "expected"), SETTINGS.values(), ids=SETTINGS)
def test_an_architecture_that_does_not_fit_is_refused(hf_folder, refusal, settings, expected):
    said = refusal(hf_folder(**settings))
    for part in ["config.json: ", *expected]:
        assert part in said


NO_NETWORKS = {
    "an unknown activation": ({"hidden_act": "foo"}, "(KeyError: 'foo')"),
    "heads that do not divide the width": ({"num_attention_heads": 5}, "hidden size (24) is not a multiple"),
    "padding beyond the vocabulary": ({"pad_token_id": 5_000}, "Padding_idx must be within"),
    "a negative width": ({"hidden_size": -24}, "negative dimension -24"),
}


@pytest.mark.parametrize(("settings", "expected"), NO_NETWORKS.values(), ids=NO_NETWORKS)
def test_a_configuration_of_which_no_network_can_be_built_is_refused(hf_folder, refusal, settings, expected):
    path = hf_folder() / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    said = refusal(path.parent)
    assert said.startswith(f"model.init_from: {path}: describes no network that can be built")
    assert expected in said


def test_quantized_weights_are_refused_by_name(hf_folder, refusal):
    path = hf_folder() / "config.json"
    quantization = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    path.write_text(json.dumps(json.loads(path.read_text()) | quantization))
    assert f"{path}: quantization_config is set" in refusal(path.parent)


def lacking_a_layer(parameters):
    return {name: tensor for name, tensor in parameters.items() if ".layer.1." not in name}


def with_a_layer_more(parameters):
    return parameters | {"bert.encoder.layer.3.output.dense.bias": torch.zeros(24)}


def with_another_shape(parameters):
    return parameters | {"bert.pooler.dense.bias": torch.zeros(25)}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lacking_a_layer, ["bert.encoder.layer.1.", "is missing (16 such)"]),
        (with_a_layer_more, ["bert.encoder.layer.3.output.dense.bias (1 such) has no place"]),
        (with_another_shape, ["bert.pooler.dense.bias has shape [25], by config.json it has [24]"]),
    ],
)
def test_weights_of_another_encoder_than_the_configuration_are_refused(hf_folder, refusal, change, expected):
    folder = hf_folder()
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    said = refusal(folder)
    for part in expected:
        assert part in said


def test_weights_cut_off_are_refused(hf_folder, refusal):
    path = hf_folder() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "download or export it again" in refusal(path.parent)


def test_a_pickle_is_refused_and_the_command_it_names_converts_it(hf_folder, refusal, started, tmp_path):
    folder = hf_folder(BertForMaskedLM)
    tensors = load_file(folder / "model.safetensors")
    tied = {"cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"]}
    torch.save(tensors | tied, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    said = refusal(folder)
    assert "pickle" in said
    command = said.partition("tensors only: python ")[2]
    subprocess.run(f"{sys.executable} {command}", shell=True, check=True)
    model, loaded = started(folder)
    assert sorted(loaded.initialised) == sorted(PAIR_HEAD)
    parameters = dict(model.network.named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in tensors.items())


def test_the_hash_of_the_weights_is_kept_and_ranks_with_others_are_told(hf_folder, run_config):
    config = run_config(hf_folder())
    shards = text_data(config).shards
    recipes = [text_recipe(config, shards)]
    hf_folder(BertForMaskedLM)
    recipes.append(text_recipe(config, shards))
    facts = [facts_of(config, {}, recipe.model_dump(mode="json")) for recipe in recipes]
    hashes = [recipe.warm_start.weights_sha256 for recipe in recipes]
    assert disagreement(["a", "b"], facts) == (
        f"data: warm_start.weights_sha256 is {hashes[0]} on rank 0 (a) but {hashes[1]} on rank 1 (b); "
        "give all ranks the same"
    )


def test_a_plan_has_the_dimensions_of_the_folder(hf_folder, run_config, tmp_path):
    config = run_config(hf_folder())
    for made in (planned_case(config, None), planned_case(without_shards(config, tmp_path), 48)):
        with torch.device("meta"):
            network = made.make(False)[0].network
        assert (network.config.hidden_size, network.config.vocab_size) == (24, 1_003)


def without_shards(config, folder):
    return config.model_copy(update={"data": config.data.model_copy(update={"path": folder / "none"})})


def test_any_backbone_starts_from_its_folder(shards, tmp_path, run_config):
    config = ModernBertConfig(
        **{"vocab_size": 1_000, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2},
        **{"intermediate_size": 40, "max_position_embeddings": 64, "local_attention": 8},
        **dict.fromkeys((f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep")), 0),
    )
    theirs = ModernBertForMaskedLM(config)
    theirs.save_pretrained(tmp_path)
    shutil.copy(shards / "tokenizer.json", tmp_path)
    ours = run_config(tmp_path, backbone="modernbert", dropout=0.2)
    data = text_data(ours)
    model = build_model(ours, text_recipe(ours, data.shards))
    found, dropouts = model.network.config, {"embedding_dropout", "attention_dropout", "mlp_dropout"}
    differing = {key for key, value in config.to_dict().items() if value != found.to_dict()[key]}
    assert differing - {"architectures", "dtype"} == dropouts
    assert all(getattr(found, name) == 0.2 for name in dropouts)
    loaded = load_folder(model.network, tmp_path)
    assert (loaded.initialised, loaded.unused) == (["next_sentence.dense", "next_sentence.classifier"], [])
    parameters = dict(model.network.named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in theirs.named_parameters())
    sums, counts = model.train().task_losses(data.micro_batch(0, 0).inputs)
    assert sums.isfinite().all() and counts.sum() > 20
