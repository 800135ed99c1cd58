"""Tasks: the classes that `_target_` names in conf/task.

file_readers (with table_files, conll_columns and text_lines) and hub_datasets read rows; class_names and entity_tags
say what labels mean. A task (task, and a module for each kind of input) makes examples of rows,
model inputs of examples (model_inputs, tokenized_cache) and predictions of logits. metrics scores the predictions.
"""

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
