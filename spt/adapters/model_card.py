"""An adapter's model card (README.md): what it is, its scores, how to use it, the command that trained it."""

from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from spt.adapters.format import Adapter, read_adapter
from spt.files import write_atomically
from spt.modeling.pretrained_encoder import is_local

CARD = "README.md"

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"

PIPELINES = {"sentence": "text-classification", "regression": "text-classification", "token": "token-classification"}


def write_card(folder: str | Path) -> Path:
    """Write the card of a run's adapter into its folder."""
    path = Path(folder) / CARD
    write_atomically(path, str(card_of(read_adapter(folder), Path(folder).as_posix())))
    return path


def card_of(adapter: Adapter, source: str) -> ModelCard:
    """The card of a run's adapter, which others load from `source`; SptError if its description is damaged."""
    run, training, head = adapter.run, adapter.training, adapter.description.head
    hub = (run.task.get("hub") or {}) if training.from_hub else {}
    on_hub = not is_local(run.model["name_or_path"])
    replaces_backbone = adapter.replaces_backbone and not run.needs_method
    pipeline = PIPELINES.get(head["task_type"])
    title = f"{run.method['name']} on {run.task['name']}"
    data = ModelCardData(
        library_name="spt",
        tags=["selective-prefix-tuning", "prefix-tuning", "adapter", run.method["name"]],
        base_model=run.model["name_or_path"] if on_hub else None,
        base_model_relation=("finetune" if replaces_backbone else "adapter") if on_hub else None,
        datasets=[hub["path"]] if hub else None,
        pipeline_tag=pipeline,
        model_name=title,
        eval_results=[
            EvalResult(
                task_type=pipeline or "multiple-choice",
                dataset_type=hub.get("path", run.task["name"]),
                dataset_name=run.task["name"],
                dataset_config=hub.get("name"),
                dataset_revision=hub.get("revision"),
                dataset_split="validation",
                metric_type=name,
                metric_value=score,
            )
            for name, score in training.scores.items()
        ],
    )
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        run=run,
        head=head,
        source=source,
        example=repr(run.input),
        on_hub=on_hub,
        size=sum(tensor.nbytes for tensor in adapter.weights.values()) / 2**20,
        replaces_backbone=replaces_backbone,
        replaced=len(adapter.backbone_weights),
    )
