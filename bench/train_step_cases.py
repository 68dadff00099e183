"""The models and runs that `train_step.py` measures, and the text that they read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.corpus.embedded import embedded_corpus
from data_prep.durable import write_durably
from data_prep.passes.job import Settings
from data_prep.passes.prepare import Preparation, begin
from data_prep.progress import Monitor
from pipeline.config import RunConfig
from pipeline.run_file import load_config

DEMO = Path(__file__).parents[1] / "configs" / "demo.yaml"
DEMO_SETTINGS = {"vocab_size": 4_096, "sequence_length": 64, "test_share": 0.1}
"""As `make demo` prepares its text."""


@dataclass(frozen=True)
class Sizes:
    """A model, and the sequences of its steps."""

    model: str
    """A name of `model.size`."""
    vocab_size: int
    length: int
    """Most pieces of a sequence."""
    batch: int
    micro: int
    """Sequences per forward pass where a step has several."""
    precision: str
    num_steps: int

    @property
    def title(self) -> str:
        """For tables and plots."""
        shape = f"{self.model}, V = {self.vocab_size:,}, {self.precision}"
        return f"{shape}, {self.batch} sequences of at most {self.length}"


def prepare(folder: Path, **settings: Any) -> Path:
    """Shards of the English that every Python carries."""
    corpus, out = folder / "corpus", folder / "shards"
    corpus.mkdir(parents=True)
    for number, document in enumerate(embedded_corpus()):
        write_durably(corpus / f"{number:04d}.txt", document.text)
    preparation = Preparation(begin([str(corpus)], out, Settings(**settings), None).job, Monitor())
    preparation.prepare()
    preparation.merge()
    return out


def run_config(shards: Path, sizes: Sizes, objective: dict[str, Any], **sections: Any) -> RunConfig:
    """A run of `objective`; `sections` replace those that are the same for all."""
    return RunConfig.model_validate(
        {
            "name": "bench",
            "steps": sizes.num_steps,
            "precision": sizes.precision,
            "data": {"path": shards},
            "model": {"size": sizes.model, "vocab_size": sizes.vocab_size},
            "objective": objective,
            "batch": {"global_size": sizes.batch, "micro_size": sizes.micro},
            "validate": {"every": 0},
            **sections,
        }
    )


def demo_config(shards: Path, precision: str) -> RunConfig:
    """The run of `make demo`."""
    return load_config(DEMO, [f"data.path={shards}", f"precision={precision}", "validate.every=0"])
