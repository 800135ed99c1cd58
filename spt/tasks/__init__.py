"""Tasks: rows become examples, examples model inputs, logits scores. `_target_` of a task's YAML is one of these."""

from spt.tasks.custom import custom_task
from spt.tasks.multiple_choice import ChoiceTask
from spt.tasks.superglue import MultiRCTask, RecordTask, WinogradTask
from spt.tasks.text_classification import RegressionTask, SentenceTask
from spt.tasks.token_classification import TokenTask

__all__ = [
    "ChoiceTask",
    "MultiRCTask",
    "RecordTask",
    "RegressionTask",
    "SentenceTask",
    "TokenTask",
    "WinogradTask",
    "custom_task",
]
