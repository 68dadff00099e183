"""What is trained."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.config.section import Section


class ModelConfig(Section):
    """The encoder. Dimensions that are not given come from `size`, or from the folder `init_from`."""

    backbone: Literal["bert", "modernbert"] = Field("bert", description="Architecture.")
    init_from: Path | None = Field(
        None,
        description="Hugging Face folder of such a model, to go on from its weights. Its config.json decides "
        "the architecture, so dimensions need not be given; the shards must be made with its tokenizer.",
    )
    size: Literal["tiny", "mini", "small", "medium", "base", "large", "1.3b"] | None = Field(
        None,
        description="Named dimensions of the backbone (tiny: 2 layers of 128; large of bert: 24 of 1,024, of "
        "modernbert: 28 of 1,024; 1.3b, of bert alone: 24 of 2,048); base if not given.",
    )
    num_layers: Annotated[int, Field(gt=0)] | None = Field(None, description="Transformer layers.")
    hidden_size: Annotated[int, Field(gt=0)] | None = Field(None, description="Width.")
    num_heads: Annotated[int, Field(gt=0)] | None = Field(None, description="Attention heads.")
    intermediate_size: Annotated[int, Field(gt=0)] | None = Field(None, description="Feed-forward width.")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="Dropout of activations and attention; if not given 0.1 of bert, 0 of modernbert."
    )
    unpad: bool | None = Field(
        None,
        description="Compute on pieces alone, and not on padding; modernbert only, where it is so without "
        "dropout if not given.",
    )
    vocab_size: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Rows of the embedding; the size of the shards' tokenizer if not given."
    )

    @field_validator("size")
    @classmethod
    def _is_base_unless_a_folder_decides(cls, size: str | None, earlier: ValidationInfo) -> str | None:
        return size if size or earlier.data.get("init_from") else "base"
