"""Check prefix tuning in two other libraries, PEFT and adapters, with tiny random models of many families.

    python -m venv /tmp/peft && /tmp/peft/bin/pip install torch==2.13.0 transformers==5.23.0 peft==0.21.2
    /tmp/peft/bin/python scripts/compare_libraries.py peft > peft.json

    python -m venv /tmp/adapters && /tmp/adapters/bin/pip install torch==2.13.0 transformers==4.57.6 adapters==1.3.0
    /tmp/adapters/bin/python scripts/compare_libraries.py adapters > adapters.json

    jq --slurp . peft.json adapters.json > results/families_elsewhere.json

They want different versions of transformers, so each library has an environment of its own.

Of each family and head is said, in a batch of three rows padded on the right, "works" or the first thing that fails:

    forward                   forward and backward run, every element of the prefix has a finite nonzero gradient,
                              moving the prefix moves the logits, a row's logits are the same alone as in the batch
    checkpointing             gradient checkpointing, enabled once the prefix is attached, leaves its gradient as it is
    checkpointing_unpadded    the same in a batch without padding, where transformers may leave out the attention mask
    bf16                      with model and prefix in bfloat16 forward and backward run, and the prefix has a gradient

The attention is transformers' default, sdpa where the family has it; where only eager attention works, that is said.
"Refused" is an error meant for the user, "fails" any other. A trainer enables checkpointing late, as here; a model that
has it earlier is refused by PEFT.

PEFT has no task type for multiple choice. "choice" is get_peft_model without a task type, "choice_by_hand" PEFT's
feature extraction put around the encoder inside the model.
"""

import json
import platform
import re
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)

PREFIX, CHOICES, LABELS, PAD = 5, 2, 3, 1
PADDED, UNPADDED = (11, 7, 4), (11, 11, 11)
HEADS: dict[str, Any] = {
    "sentence": AutoModelForSequenceClassification,
    "choice": AutoModelForMultipleChoice,
    "choice_by_hand": AutoModelForMultipleChoice,
    "token": AutoModelForTokenClassification,
}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
TOKENS = {"vocab_size": 100, "pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2}
BERT = {**SIZES, **NO_DROPOUT, "max_position_embeddings": 64}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64}
DEBERTA = {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "pooler_hidden_size": 32}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "n_positions": 64, "classifier_dropout": 0.0}
LLAMA = {**BERT, "num_key_value_heads": 2}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("bert", BERT),
    "RoBERTa": ("roberta", BERT),
    "XLM-RoBERTa": ("xlm-roberta", BERT),
    "CamemBERT": ("camembert", BERT),
    "ELECTRA": ("electra", {**BERT, "embedding_size": 16, "summary_last_dropout": 0.0}),
    "ALBERT": ("albert", {**BERT, "embedding_size": 16, "classifier_dropout_prob": 0.0}),
    "DistilBERT": ("distilbert", {**DISTILBERT, "dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}),
    "MPNet": ("mpnet", BERT),
    "ModernBERT": (
        "modernbert",
        {**BERT, "num_hidden_layers": 4, "global_attn_every_n_layers": 2, "local_attention": 8},
    ),
    "DeBERTa": ("deberta", DEBERTA),
    "DeBERTa-v2/v3": ("deberta-v2", {**DEBERTA, "position_buckets": 8, "share_att_key": True}),
    "GPT-2": ("gpt2", {**GPT2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "Llama": ("llama", LLAMA),
    "Qwen2": ("qwen2", LLAMA),
    "Qwen3": ("qwen3", {**LLAMA, "head_dim": 8}),
}


class Failed(Exception):
    """A check that failed; the message says what does not work."""


def config_of(family: str) -> PretrainedConfig:
    """The tiny config of a family."""
    model_type, sizes = FAMILIES[family]
    return AutoConfig.for_model(model_type, initializer_range=0.2, num_labels=LABELS, **TOKENS, **sizes)


def model_of(family: str, head: str, **how: Any) -> PreTrainedModel:
    """A new tiny model; its random weights are the same at each call."""
    torch.manual_seed(0)
    return HEADS[head].from_config(config_of(family), **how)


def batch_of(head: str, lengths: tuple[int, ...] = PADDED) -> dict[str, torch.Tensor]:
    """A batch with rows of these lengths, padded on the right; the choices of a multiple-choice row have one length."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    if head.startswith("choice"):
        mask = mask[:, None].repeat(1, CHOICES, 1)
    tokens = torch.randint(5, 100, mask.shape, generator=generator)
    if head == "token":
        labels = torch.randint(LABELS, mask.shape, generator=generator).where(mask == 1, -100)
    else:
        labels = torch.randint(LABELS if head == "sentence" else CHOICES, (len(lengths),), generator=generator)
    return {"input_ids": tokens.where(mask == 1, PAD), "attention_mask": mask, "labels": labels}


def attach_peft(model: PreTrainedModel, head: str) -> nn.Module:
    """The model with the prefixes of PEFT."""
    from peft import PrefixTuningConfig, get_peft_model

    task_types = {"sentence": "SEQ_CLS", "token": "TOKEN_CLS", "choice": None, "choice_by_hand": "FEATURE_EXTRACTION"}
    own = model.config
    config = PrefixTuningConfig(
        task_type=task_types[head],
        num_virtual_tokens=PREFIX,
        # PEFT needs these if the config of the family has other names for them.
        token_dim=own.hidden_size,
        num_layers=own.num_hidden_layers,
        num_attention_heads=own.num_attention_heads,
    )
    if head != "choice_by_hand":
        return get_peft_model(model, config)
    setattr(model, model.base_model_prefix, get_peft_model(model.base_model, config))
    return model


def attach_adapters(model: Any, head: str) -> nn.Module:
    """The model with the prefixes of adapters."""
    import adapters

    adapters.init(model)
    model.add_adapter("prefix", config=f"prefix_tuning[flat=True,prefix_length={PREFIX}]")
    model.train_adapter("prefix")
    model.adapter_to("prefix", dtype=model.dtype)
    return model


def prefixes_of(model: nn.Module) -> list[nn.Parameter]:
    """The trainable parameters of the prefixes, by their names in either library."""
    names = ("prompt_encoder.", "prefix_tunings.")
    found = [p for name, p in model.named_parameters() if p.requires_grad and any(part in name for part in names)]
    if not found:
        raise Failed("no trainable prefix")
    return found


def gradient(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The gradient of the loss for all elements of the prefixes; zero for elements without a gradient."""
    prefixes = prefixes_of(model)
    model.train()
    model.zero_grad()
    loss = model(**batch).loss
    if loss.requires_grad:
        loss.backward()
    found = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in prefixes]).float()
    if not found.isfinite().all():
        raise Failed("gradient not finite")
    return found


@torch.no_grad()
def logits(
    model: nn.Module, batch: dict[str, torch.Tensor], rows: slice = slice(None), length: int = max(PADDED)
) -> torch.Tensor:
    """The logits of some rows of a batch, truncated to a length."""
    inputs = {name: batch[name][rows, ..., :length] for name in ("input_ids", "attention_mask")}
    return model.eval()(**inputs).logits


def forward(model: nn.Module, head: str) -> None:
    """Check that the prefix has a gradient, changes the logits, and that padding does not change them."""
    batch = batch_of(head)
    found = gradient(model, batch)
    if not found.any():
        raise Failed("no gradient")
    if not found.all():
        raise Failed(f"no gradient at {(found == 0).sum()} of {found.numel()} elements")
    before = logits(model, batch)
    for row, length in enumerate(PADDED):
        alone = logits(model, batch, slice(row, row + 1), length)[0]
        together = before[row, :length] if head == "token" else before[row]
        if (difference := (alone - together).abs().max().item()) > 1e-4:
            raise Failed(f"padding changes the output (by {difference:.1g})")
    with torch.no_grad():
        for prefix in prefixes_of(model):
            prefix.add_(torch.randn_like(prefix))
    if torch.allclose(logits(model, batch), before, atol=1e-4):
        raise Failed("prefix has no effect")


def checkpointing(model: Any, head: str, lengths: tuple[int, ...] = PADDED) -> None:
    """Check that gradient checkpointing does not change the gradient of the prefix."""
    batch = batch_of(head, lengths)
    expected = gradient(model, batch)
    if not expected.any():
        raise Failed("no gradient, with checkpointing or without")
    model.gradient_checkpointing_enable()
    found = gradient(model, batch)
    if not found.any():
        raise Failed("gradient lost under checkpointing")
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()):
        raise Failed("gradient changed under checkpointing")


def checkpointing_unpadded(model: nn.Module, head: str) -> None:
    """The same check with a batch without padding."""
    checkpointing(model, head, UNPADDED)


def bf16(model: nn.Module, head: str) -> None:
    """Check that forward and backward run in bfloat16."""
    if not gradient(model, batch_of(head)).any():
        raise Failed("no gradient")


ATTACH = {"peft": attach_peft, "adapters": attach_adapters}
CHECKS = {check.__name__: check for check in (forward, checkpointing, checkpointing_unpadded, bf16)}


def outcome(library: str, family: str, head: str, check: Callable, **how: Any) -> str:
    """The result of a check of a model with the prefixes of a library: "works", or what does not."""
    if check is bf16:
        how["dtype"] = torch.bfloat16
    try:
        bare = model_of(family, head, **how)
        if check in (checkpointing, checkpointing_unpadded):
            bare.gradient_checkpointing_enable()
        bare(**batch_of(head)).loss.backward()
    except Exception as error:
        return f"not in transformers itself: {told(error)}"
    try:
        check(ATTACH[library](model_of(family, head, **how), head), head)
    except Failed as failure:
        return str(failure)
    except (ValueError, NotImplementedError) as error:
        return f"refused: {told(error)}"
    except Exception as error:
        return f"fails: {told(error)}"
    return "works"


def told(error: Exception) -> str:
    """The type of an error and the first line of its message, without config fields that are printed in it."""
    line = re.sub(r"Config\(.*\)", "Config(...)", str(error).partition("\n")[0])
    return f"{type(error).__name__}: {line}"


def outcomes(library: str, family: str, head: str) -> dict[str, str]:
    """The results of all checks."""
    if type(config_of(family)) not in HEADS[head]._model_mapping:
        return dict.fromkeys(CHECKS, "no such head in transformers")
    said = {name: outcome(library, family, head, check) for name, check in CHECKS.items()}
    for name, check in CHECKS.items():
        if said[name] != "works" and outcome(library, family, head, check, attn_implementation="eager") == "works":
            said[name] += "; works with attn_implementation='eager'"
    return said


def main() -> None:
    """Print the results of one library as JSON."""
    if sys.argv[1:] not in [[library] for library in ATTACH]:
        sys.exit(f"usage: python {sys.argv[0]} {'|'.join(ATTACH)}")
    library = sys.argv[1]
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    heads = [head for head in HEADS if library == "peft" or head != "choice_by_hand"]
    about = {
        "command": f"python scripts/compare_libraries.py {library}",
        "library": library,
        "version": version(library),
        **{name: version(name) for name in ("transformers", "torch")},
        "python": platform.python_version(),
        "results": {family: {head: outcomes(library, family, head) for head in heads} for family in FAMILIES},
    }
    print(json.dumps(about, indent=2))


if __name__ == "__main__":
    main()
