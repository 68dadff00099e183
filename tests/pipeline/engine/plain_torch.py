"""The slow, obvious twin of the engine: one process, no DeepSpeed, the whole step in one graph."""

import torch
from plain_optimizers import twin_of
from torch.nn import functional

from pipeline.engine.step import dropout_seed


def train(network, data, config, num_steps):
    """Train `network` in place for some steps of `data`; returns the gradients of the last one by name."""
    optimizer = twin_of(config.optimizer, network)
    for step in range(num_steps):
        optimizer.zero_grad()
        step_loss(network, data, config, step).backward()
        if config.optimizer.grad_clip:
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.grad_clip)
        optimizer.step()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def step_loss(network, data, config, step):
    """Σ_t w_t L_t + nsp_weight · L_nsp over the pooled batch of a step, the weights detached."""
    num_tasks = len(data.shards.task_names)
    word_losses, pair_losses = step_losses(network, data, config, step)
    by_task = [losses for losses in word_losses[:num_tasks] if losses]
    loss = _loss_of_words(config.objective, by_task, word_losses, step)
    if config.objective.nsp == "auxiliary":
        loss = loss + config.objective.nsp_weight * torch.cat(pair_losses).mean()
    return loss


def step_losses(network, data, config, step):
    """Of the pooled batch of a step: losses per task, and of other words as the last; losses of pairs."""
    num_tasks = len(data.shards.task_names)
    word_losses = [[] for _ in range(num_tasks + 1)]  # the last are of words without a task
    pair_losses = []
    for index in range(config.batch.num_micro_batches):
        inputs = data.micro_batch(step, index).inputs
        torch.manual_seed(dropout_seed(config.seed, step, index))
        logits, pair_logits = _logits(network, inputs, config)
        rows = zip(inputs["masked_positions"], inputs["labels"], inputs["loss_tasks"], strict=True)
        for position, label, task in rows:
            word_losses[task].append(functional.cross_entropy(logits[position], label))
        if config.objective.nsp != "off":
            labels = inputs["next_sentence_label"]
            pair_losses.append(functional.cross_entropy(pair_logits, labels, reduction="none"))
    return word_losses, pair_losses


def _loss_of_words(objective, by_task, all_words, step):
    if objective.name == "token_mean" or (
        step < objective.start_step and objective.start_name == "token_mean"
    ):
        return torch.stack([loss for losses in all_words for loss in losses]).mean()
    means = torch.stack([torch.stack(losses).mean() for losses in by_task])
    if objective.name == "average":
        return means.mean()
    shares = torch.tensor([float(len(losses)) for losses in by_task]) / sum(map(len, by_task))
    powers = shares**objective.prior_power * torch.exp(objective.alpha * means.detach())
    return (powers / powers.sum() * means).sum()


def _logits(network, inputs, config):
    """By whole heads, on padded sequences: words [B·L, V], and pairs [B, 2] or None."""
    if config.model.backbone == "bert":
        names = ("input_ids", "attention_mask", "token_type_ids")
        output = network(**{name: inputs[name] for name in names})
        return output.prediction_logits.float().flatten(0, 1), output.seq_relationship_logits.float()
    hidden = network.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
    words = network.decoder(network.head(hidden)).float().flatten(0, 1)
    return words, network.next_sentence(hidden[:, 0]).float() if config.objective.nsp != "off" else None
