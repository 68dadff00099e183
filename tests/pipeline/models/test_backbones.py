"""Every size and every shipped run file builds the model that its name claims."""

from pathlib import Path

import pytest
import torch

from pipeline.config import ModelConfig
from pipeline.models.backbones import BACKBONES
from pipeline.run_file import load_config

ROOT = Path(__file__).parents[3]
SIZES = [(name, size) for name, backbone in BACKBONES.items() for size in backbone.sizes]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def millions_of(config):
    """Parameters of the published heads, with the published vocabulary."""
    backbone = BACKBONES[config.backbone]
    with torch.device("meta"):
        network = backbone.configure(config, backbone.vocab_size, 512, 0)
        model = backbone.model(network, 9, with_nsp=config.backbone == "bert")
    return sum(p.numel() for p in model.network.parameters()) / 1e6


@pytest.mark.parametrize(("backbone", "size"), SIZES)
def test_a_size_has_the_parameters_that_its_name_claims(backbone, size):
    claimed = BACKBONES[backbone].sizes[size].millions
    assert millions_of(ModelConfig(backbone=backbone, size=size)) == pytest.approx(claimed, rel=0.01)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_run_file_builds_the_size_of_its_name(path):
    config = load_config(path, []).model
    claimed = BACKBONES[config.backbone].sizes[config.size].millions
    assert path.stem in ("tiny", "demo", "study", f"{config.backbone}-{config.size}")
    assert millions_of(config) == pytest.approx(claimed, rel=0.01)


@pytest.mark.parametrize(
    ("size", "published"),
    [("base", 149), ("large", 395)],
)
def test_modernbert_has_the_published_parameters(size, published):
    """Warner et al. 2024, table 4, cut to whole millions."""
    assert int(millions_of(ModelConfig(backbone="modernbert", size=size))) == published


@pytest.mark.parametrize(("backbone", "size"), SIZES)
def test_the_guide_shows_every_size(backbone, size):
    dimensions = BACKBONES[backbone].sizes[size]
    feed_forward = round(dimensions.feed_forward * dimensions.hidden_size)
    shape = (
        f"{dimensions.num_layers} | {dimensions.hidden_size:,} | {dimensions.num_heads} | {feed_forward:,}"
    )
    row = f"| `{backbone}` | `{size}` | {shape} | {dimensions.millions:,g} M |"
    assert row in (ROOT / "docs" / "guide.md").read_text()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"size": "1.3b"}, "model.size 1.3b: modernbert has tiny, mini, small, medium, base, large"),
        ({"size": "tiny", "hidden_size": 30, "num_heads": 4}, "model.hidden_size 30 is not a multiple"),
        ({"size": "tiny", "hidden_size": 30, "num_heads": 2}, "must be even for rotary positions"),
        ({"backbone": "bert", "unpad": True}, "model.unpad true: bert"),
    ],
)
def test_what_a_backbone_cannot_do_is_refused(keys, said):
    config = ModelConfig(**{"backbone": "modernbert", **keys})
    with pytest.raises(ValueError, match=said):
        BACKBONES[config.backbone].configure(config, 100, 64, 0)


def test_dimensions_that_are_given_replace_those_of_the_size():
    config = ModelConfig(backbone="modernbert", size="tiny", num_layers=3, hidden_size=64)
    network = BACKBONES["modernbert"].configure(config, 100, 64, 0)
    assert (network.num_hidden_layers, network.hidden_size, network.intermediate_size) == (3, 64, 96)
    config = ModelConfig(size="tiny", intermediate_size=40)
    assert BACKBONES["bert"].configure(config, 100, 64, 0).intermediate_size == 40
