"""The trainer settings that an adapter was trained with, to evaluate it as its run did."""

from spt.adapters.format import Adapter
from spt.training.settings import trainer_settings
from spt.training.trainer_schema import TrainerSettings


def recorded_settings(adapter: Adapter, batch_size: int | None = None) -> TrainerSettings:
    """The settings of the run, with its precision and, unless `batch_size` is given, the size of its dev batches.

    Raises:
        SptError: the adapter does not say how it was trained, or the batch size is not valid.
    """
    trained = adapter.training.trainer
    values = {name: trained[name] for name in TrainerSettings.model_fields if name in trained}
    return trainer_settings(values | ({} if batch_size is None else {"per_device_eval_batch_size": batch_size}))
