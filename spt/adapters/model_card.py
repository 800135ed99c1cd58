"""An adapter's model card, README.md beside it: what it is, its score, how to use it, the command that made it."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from spt.adapters.format import Adapter, read_adapter
from spt.modeling.pretrained_encoder import is_local

CARD = "README.md"

PIPELINES = {"sentence": "text-classification", "regression": "text-classification", "token": "token-classification"}

BODY = """---
{{ card_data }}
---

# {{ method }} on {{ task }}

What `spt` (Selective Prefix Tuning; Zhang et al., Findings of ACL 2024) trained on {{ task }} ({{ task_type }}), to go
on `{{ base_model }}`{{ revision }}: {{ size }} {{ whole }}.

| metric | dev ({{ examples }} examples), best epoch |
| --- | --- |
{{ scores }}

The dev split chose the epoch ({{ epoch }}) that it is scored on here: a maximum over epochs, of one seed ({{ seed }}).
{{ labels }}
## Use

```python
import spt

predictor = spt.load("{{ source }}")
list(predictor.predict([{{ input }}]))
```

or `python -m spt.predict run={{ source }} input=file.jsonl`.

## Training

    {{ command }}

{{ settings }}
"""


def write_card(folder: str | Path) -> Path:
    """Write the card of a run's adapter beside it."""
    path = Path(folder) / CARD
    card_of(read_adapter(folder), Path(folder).as_posix()).save(path)
    return path


def card_of(adapter: Adapter, source: str) -> ModelCard:
    """The card of a run's adapter, from what its description says; `source` is where one loads it from."""
    about = adapter.about
    task, training, model = about["task"], about["training"], about["model"]
    base_model, revision = model["name_or_path"], model["revision"]
    hub = (task.get("hub") or {}) if training["from_hub"] else {}
    on_hub = not is_local(base_model)
    data = ModelCardData(
        library_name="spt",
        tags=["selective-prefix-tuning", "prefix-tuning", "adapter", about["method"]["name"]],
        base_model=base_model if on_hub else None,
        base_model_relation=("finetune" if adapter.replaces_backbone else "adapter") if on_hub else None,
        datasets=[hub["path"]] if hub else None,
        pipeline_tag=PIPELINES.get(adapter.description["head"]["task_type"]),
        model_name=f"{about['method']['name']} on {task['name']}",
        eval_results=[
            EvalResult(
                task_type=PIPELINES.get(adapter.description["head"]["task_type"], "multiple-choice"),
                dataset_type=hub.get("path", task["name"]),
                dataset_name=task["name"],
                dataset_config=hub.get("name"),
                dataset_revision=hub.get("revision"),
                dataset_split="validation",
                metric_type=name,
                metric_value=score,
            )
            for name, score in training["scores"].items()
        ],
    )
    settings = {"method": about["method"], "trainer": training["trainer"], "model": model}
    return ModelCard.from_template(
        data,
        template_str=BODY,
        method=about["method"]["name"],
        task=task["name"],
        task_type=adapter.description["head"]["task_type"],
        base_model=base_model,
        revision=f" at revision `{revision}`" if on_hub else "",
        size=f"{sum(t.numel() * t.element_size() for t in adapter.weights.values()) / 2**20:.2f} MiB",
        whole=_whole(adapter),
        scores="\n".join(f"| {name} | {100 * score:.2f} |" for name, score in training["scores"].items()),
        examples=training["examples"]["validation"],
        epoch=training["epoch"],
        seed=training["seed"],
        labels=f"\nLabels: {', '.join(f'`{label}`' for label in task['labels'])}.\n" if task.get("labels") else "",
        source=source,
        input=repr(about["input"]),
        command=training["command"],
        settings="\n".join(f"- {group}: {_settings(values)}" for group, values in settings.items()),
    )


def _whole(adapter: Adapter) -> str:
    """What becomes of the base model."""
    replaced = len(adapter.backbone_weights)
    if adapter.replaces_backbone:
        return "that take the place of the base model's own"
    return "beside a base model that it leaves as it is" + f", but for {replaced} of its tensors" * bool(replaced)


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if not name.startswith("_"))
