"""A pretrained encoder and its tokenizer, from the hub or a local folder."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from spt.errors import SptError, nearest
from spt.readers import local_path

DTYPES = ("float32", "bfloat16", "float16", "float64")


def load_backbone(
    name_or_path: str,
    revision: str = "main",
    attn_implementation: str = "sdpa",
    dtype: str = "float32",
    config: dict[str, Any] | None = None,
    tokenizer: dict[str, Any] | None = None,
    split_into_words: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an encoder (safetensors only, no code from the hub) and its tokenizer.

    Args:
        name_or_path: a hub id, or a folder with config.json, model.safetensors and the tokenizer's files.
        revision: branch, tag or commit on the hub.
        attn_implementation: "sdpa" (fused) or "eager" (the formula as it reads).
        dtype: of the weights.
        config: entries of the model's configuration to replace, such as hidden_dropout_prob.
        tokenizer: further arguments of the tokenizer.
        split_into_words: whether texts come as lists of words, each of which then starts with a space where the
            tokenizer tells (RoBERTa).

    Raises:
        SptError: where the model cannot be had, or its checkpoint lacks more than a pooler.
    """
    if dtype not in DTYPES:
        raise SptError(f"unknown model.dtype={dtype!r}: {nearest(dtype, DTYPES)}")
    folder, looks_local = local_path(name_or_path), is_local(name_or_path)
    if looks_local and not (folder / "config.json").is_file():
        raise SptError(f"model.name_or_path={name_or_path!r} is no folder with a model: it has no config.json")
    source = str(folder) if looks_local else name_or_path
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        encoder, info = AutoModel.from_pretrained(
            source,
            revision=revision,
            attn_implementation=attn_implementation,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            **(config or {}),
        )
        spaces = {"add_prefix_space": True} if split_into_words else {}
        words = AutoTokenizer.from_pretrained(source, revision=revision, **spaces | (tokenizer or {}))
    except Exception as error:
        if isinstance(error, ValueError) and "attention implementation" in str(error):
            raise SptError(
                f"{source!r} does not know model.attn_implementation={attn_implementation!r}: choose eager (for method="
                "fine_tuning or linear_probe: where a model has no sdpa, prefixes seldom have a way into its attention)"
            ) from error
        if isinstance(error, TypeError) and config:
            remedy = f"model.config={config} may name an entry that this model's configuration does not have"
        elif looks_local:
            remedy = "It must hold config.json, model.safetensors and the tokenizer's files"
        else:
            remedy = (
                "Check model.name_or_path and model.revision, at which there must be a model.safetensors; without a "
                "network, HF_HUB_OFFLINE=1 takes what was loaded before, model.name_or_path a folder with the model"
            )
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise SptError(
            f"cannot load the model {name_or_path!r} ({type(error).__name__}: {reason}). {remedy}"
        ) from error
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise SptError(
            f"the checkpoint of {name_or_path!r} lacks {missing[0]} and {len(missing) - 1} more of the weights of a "
            f"{type(encoder).__name__}: it is not a checkpoint of this architecture"
        )
    return encoder, words


def is_local(name_or_path: str) -> bool:
    """Whether a name means a folder, not a model on the hub."""
    return name_or_path.startswith(("/", ".", "~", "pkg://")) or local_path(name_or_path).is_dir()


def commit_of(name_or_path: str, revision: str) -> str | None:
    """The hub's commit that a model was loaded from; None for a folder."""
    config = None if is_local(name_or_path) else try_to_load_from_cache(name_or_path, "config.json", revision=revision)
    return Path(config).parent.name if isinstance(config, str) else None
