"""`spt.inspect`: what the prefixes of a trained adapter learned."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spt.adapters.predictor import Predictor
from spt.console import advancing
from spt.errors import SptError, check_count, is_whole
from spt.insight.attention_measures import attention_measures, bootstrap_draws, with_permutations
from spt.insight.attention_sums import AttentionSums
from spt.insight.interventions import changes, scored_interventions
from spt.insight.result import LAYER_MATRIX, Array, Insight, Measure
from spt.insight.text_batches import Texts, label_names, texts_of_batches, texts_of_split
from spt.modeling import slot_cosine_and_rank
from spt.modeling.attention_probe import inspected_attention
from spt.modeling.prefix_parameters import attached
from spt.modeling.task_model import TaskModel
from spt.tasks.task import Example
from spt.training.evaluate_split import evaluate_split
from spt.training.process_group import join
from spt.training.settings import precision, recorded_settings
from spt.training.trainer_schema import TrainerSettings

Inputs = Iterable[Mapping[str, Tensor]]


def inspect(
    source: Predictor | TaskModel,
    examples: list[Example] | Inputs,
    *,
    interventions: bool = False,
    batch_size: int | None = None,
    seed: int = 0,
    split: str | None = None,
    show_progress: bool = False,
) -> Insight:
    """Measure how alike the slots of an adapter are, how gates and attention use them, and what each part does.

    Args:
        source: a predictor (`spt.load`), or a TaskModel with prefixes, which must be in evaluation mode.
        examples: for a predictor labelled examples of its task, as `predictor.task.read("validation")` gives them; for
            a model batches of its inputs, dicts with input_ids, attention_mask and, if known, labels.
        interventions: whether to score the adapter with each of its parts changed: an evaluation for each slot, each
            layer, and about ten more. Only a predictor has the scores of its task.
        batch_size: of a predictor's inputs; None: the one that the run evaluated with.
        seed: of the samples for standard errors, and of the permutations of labels.
        split: what the result calls the examples.
        show_progress: whether to show a progress bar, if standard error is a terminal.

    Raises:
        SptError: `source` carries no prefixes, or the examples have no labels that interventions could be scored by.
    """
    if not is_whole(seed) or seed < 0:
        raise SptError(f"seed must be a whole number of at least 0, not {seed!r}")
    if batch_size is not None:
        check_count("batch_size", batch_size)
    if not isinstance(source, Predictor | TaskModel):
        raise SptError(f"give a Predictor (spt.load) or a TaskModel, not {type(source).__name__}")
    inputs: list[Any] = list(examples)
    if isinstance(source, Predictor):
        return _inspect_predictor(source, inputs, interventions, batch_size, seed, split, show_progress)
    if interventions:
        raise SptError("interventions need the scores of a task: give the Predictor that spt.load returns")
    check_inspectable(source)
    texts = texts_of_batches(source, inputs)
    names = None if texts.labels is None else [str(number) for number in range(source.num_labels)]
    with advancing(len(texts.batches), "batches", show_progress) as done:
        return _measured(source, texts, names, None, seed, done, {"adapter": None, "task": None, "split": split})


def _inspect_predictor(
    predictor: Predictor,
    examples: list[Any],
    interventions: bool,
    batch_size: int | None,
    seed: int,
    split: str | None,
    show_progress: bool,
) -> Insight:
    check_inspectable(predictor.model, predictor.adapter.folder)
    task, tokenizer = predictor.task, predictor.tokenizer
    if not examples:
        raise SptError("there are no examples to inspect the adapter on")
    if interventions and not all(task.target in example for example in examples):
        raise SptError("interventions are scored by labels, and these examples have none")
    settings = recorded_settings(predictor.adapter, batch_size)
    accelerator = join(settings)
    model = predictor.model.to(accelerator.device)
    encoded = predictor.encode(examples)
    texts = texts_of_split(model, task, encoded, tokenizer, settings.per_device_eval_batch_size)
    adapter = predictor.adapter
    about = {"adapter": str(adapter.folder), "task": task.name, "split": split}
    about["adapter_sha256"] = adapter.description.sha256
    with advancing(len(texts.batches), "batches", show_progress) as done:
        insight = _measured(model, texts, label_names(task), settings, seed, done, about)
    if not interventions:
        return insight

    def scored() -> tuple[float, list]:
        evaluation = evaluate_split(model, task, encoded, tokenizer, settings, accelerator)
        return evaluation.scores[task.metrics[0]], evaluation.outcomes

    chosen = list(changes(insight))
    with advancing(1 + len(chosen), "interventions", show_progress) as done:
        changed = scored_interventions(model, task.metrics[0], chosen, scored, done)
    return insight.model_copy(update={"interventions": changed})


def check_inspectable(model: TaskModel, folder: Path | None = None) -> None:
    """Refuse a model without prefixes, or in training mode; `folder` is what the message names."""
    if attached(model) is None:
        raise SptError(
            f"{folder or 'this model'} has no prefixes to inspect: the methods with prefixes are spt, spt_sl, "
            "prefix_tuning and p_tuning_v2"
        )
    if model.training:
        raise SptError("the model is in training mode, where dropout changes attention: call model.eval() first")


def _measured(
    model: TaskModel,
    texts: Texts,
    names: list[str] | None,
    settings: TrainerSettings | None,
    seed: int,
    done: Callable[[], None],
    about: dict[str, str | None],
) -> Insight:
    config, device = attached(model), model.encoder.device
    assert config is not None
    labels = None if texts.labels is None else with_permutations(texts.labels, seed)
    count = 0 if names is None else len(names)
    sums = AttentionSums(bootstrap_draws(texts.examples, seed), config.alpha is not None, labels, count)
    as_trained = nullcontext() if settings is None else precision(settings, device)
    with torch.inference_mode(), as_trained, inspected_attention(model, sums.visit):
        for batch in texts.batches:
            sums.start(batch)
            model(**{name: tensor.to(device) for name, tensor in batch.inputs.items()})
            done()
    measures = attention_measures(sums)
    layers, heads = measures["prefix_mass"].values.shape
    return Insight(
        format=1,
        **about,  # type: ignore[arg-type]
        examples=texts.examples,
        positions=texts.positions,
        layers=layers,
        heads=heads,
        prefix_length=config.prefix_length,
        alpha=config.alpha,
        labels=None if labels is None or names is None else tuple(names),
        interventions=None,
        **similarity(model),  # type: ignore[arg-type]
        **measures,  # type: ignore[arg-type]
    )


def similarity(model: TaskModel) -> dict[str, Array]:
    """The measures of the slots' vectors alone, by their names in `Insight`; the axis "matrix" is keys, values."""

    def numbers(function: Callable[[Tensor], Tensor]) -> Any:
        return slot_cosine_and_rank.by_matrix(model, function).numpy()

    measures: dict[str, Array] = {
        "cosine": Array(axes=("layer", "matrix", "slot", "other_slot"), values=numbers(slot_cosine_and_rank.cosine))
    }
    for name, function in (
        ("mean_abs_cosine", slot_cosine_and_rank.mean_abs_cosine),
        ("effective_rank", slot_cosine_and_rank.effective_rank),
        ("norm_mean", lambda matrix: slot_cosine_and_rank.norm(matrix)[0]),
        ("norm_std", lambda matrix: slot_cosine_and_rank.norm(matrix)[1]),
    ):
        measures[name] = Measure.of(numbers(function)[None], LAYER_MATRIX)
    return measures
