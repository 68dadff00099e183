"""Task-robust pre-training on DeepSpeed ZeRO: data order, models, objectives, engine, evaluation."""
