"""The run file: every key, its type, default and meaning."""

from pipeline.config.data import BatchConfig, DataConfig, MaskingConfig
from pipeline.config.model import ModelConfig
from pipeline.config.objective import ObjectiveConfig
from pipeline.config.operation import CheckpointConfig, LogConfig, ProfileConfig, ValidateConfig
from pipeline.config.optimization import OptimizerConfig, ScheduleConfig
from pipeline.config.run import RunConfig

__all__ = [
    "BatchConfig",
    "CheckpointConfig",
    "DataConfig",
    "LogConfig",
    "MaskingConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "ProfileConfig",
    "RunConfig",
    "ScheduleConfig",
    "ValidateConfig",
]
