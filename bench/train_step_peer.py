"""The peer: transformers' Trainer with `BertForPreTraining` and the standard collator."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from train_step_clock import DATA, Clock
from train_step_engines import fresh_model
from transformers import (
    BertForPreTraining,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.training_args import ParallelMode

from data_prep.schema import NO_LABEL
from pipeline.assembly import text_data
from pipeline.config import RunConfig
from pipeline.data.order import StepOrder
from pipeline.data.shards import Shards
from pipeline.data.text import task_quotas
from pipeline.models.bert import BertTaskModel

IGNORED = -100
"""The label that torch's cross-entropy leaves out."""


class TrainerSteps(TrainerCallback):
    """A run of Trainer, from the initial parameters of our run, on its sequences in its order."""

    def __init__(self, config: RunConfig) -> None:
        self.clock = Clock()
        ours = fresh_model(config).network
        self.model = BertForPreTraining(ours.config)  # with the output layer that transformers gives it
        self.model.load_state_dict(ours.state_dict())
        self.clock.watch_model(self.model, self.model.bert)
        self.num_tokens: list[int] = []
        self.num_labels: list[int] = []
        self._collator = collator(Shards(config.data.path), config.masking.rate)
        self._config = config
        self._between: Callable[[], None] = lambda: None

    def run(self, between: Callable[[], None]) -> None:
        """All steps; after each, `between`, whose time is not counted."""
        self._between = between
        with tempfile.TemporaryDirectory() as folder, without_launcher():
            trainer = Trainer(
                model=self.model,
                args=arguments(self._config, folder),
                train_dataset=sequences(self._config),
                data_collator=self.clock.timed(DATA, self._collate),
                callbacks=[self],
            )
            assert trainer.args.parallel_mode == ParallelMode.NOT_PARALLEL
            trainer.train()

    def on_train_begin(self, *_: Any, **named: Any) -> None:
        """The first step begins."""
        optimizer = named["optimizer"]
        self.clock.watch_optimizer(getattr(optimizer, "optimizer", optimizer))
        self.clock.start()

    def on_step_end(self, *_: Any, **named: Any) -> None:
        """A step ends; the next one begins after `between`, with the reading of its batch."""
        self.clock.stop()
        self._between()
        self.clock.start()

    def on_train_end(self, *_: Any, **named: Any) -> None:
        """What came after the last step is none."""
        self.clock.stop()
        self.clock.steps.pop()
        self.clock.cpu_s.pop()

    def _collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = self._collator(rows)
        self.num_tokens.append(int(batch["attention_mask"].sum()))
        self.num_labels.append(int((batch["labels"] != IGNORED).sum()))
        return batch


@contextmanager
def without_launcher() -> Iterator[None]:
    """Hide that this process has joined ranks: Trainer would wrap the model in DistributedDataParallel."""
    with mock.patch.dict(os.environ):
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)
        yield


def arguments(config: RunConfig, folder: str) -> TrainingArguments:
    """Trainer's defaults, but for what the run file decides, and without logs and checkpoints."""
    optimizer = config.optimizer
    return TrainingArguments(
        output_dir=folder,
        max_steps=config.steps,
        per_device_train_batch_size=config.batch.global_size,
        train_sampling_strategy="sequential",
        learning_rate=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        adam_epsilon=optimizer.eps,
        max_grad_norm=optimizer.grad_clip,
        bf16=config.precision == "bf16",
        seed=config.seed,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def sequences(config: RunConfig) -> list[dict[str, Any]]:
    """Those of all steps, in their order, in memory."""
    shards = Shards(config.data.path)
    groups = [shards.train_table(task) for task in shards.task_names]
    quotas = task_quotas(config.data.quota, shards.manifest)
    order = StepOrder([len(group) for group in groups], quotas, config.batch.global_size, config.seed)
    rows = []
    for step in range(config.steps):
        for task, place in order.step(step):
            row = groups[task][place]
            label = row.next_sentence_label
            rows.append(
                {
                    "input_ids": row.input_ids.tolist(),
                    "token_type_ids": row.token_type_ids.tolist(),
                    "next_sentence_label": IGNORED if label == NO_LABEL else label,
                }
            )
    return rows


def collator(shards: Shards, rate: float) -> DataCollatorForLanguageModeling:
    """Masks pieces, and pads to the longest sequence."""
    names = ("pad", "mask", "cls", "sep", "unk")
    specials = {f"{name}_token": f"[{name.upper()}]" for name in names}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=shards.tokenizer, **specials)
    return DataCollatorForLanguageModeling(tokenizer, mlm_probability=rate)


def peer_loss(network: BertForPreTraining, config: RunConfig) -> float:
    """What transformers calls the loss of the run's first micro-batch, without dropout."""
    batch = text_data(config).micro_batch(0, 0).inputs
    labels = torch.full_like(batch["input_ids"], IGNORED)
    labels.view(-1)[batch["masked_positions"]] = batch["labels"]
    pairs = batch["next_sentence_label"]
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    with evaluating(network), torch.no_grad():
        pairs = pairs.masked_fill(pairs == NO_LABEL, IGNORED)
        return float(network(**inputs, labels=labels, next_sentence_label=pairs).loss)


def our_loss(model: BertTaskModel, config: RunConfig) -> float:
    """The same from our model: means over all masked words and over all pairs."""
    batch = text_data(config).micro_batch(0, 0)
    with evaluating(model), torch.no_grad():
        sums, counts = model.task_losses(batch.inputs)
    return float(sums[:-1].sum() / counts[:-1].sum() + sums[-1] / counts[-1])


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout."""
    module.eval()
    yield
    module.train()
