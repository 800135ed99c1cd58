"""Tiny random encoders of every family that supports prefixes."""

import torch
import transformers
from transformers import PreTrainedModel

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
NO_PADDING = {"pad_token_id": None}  # as in the decoders' checkpoints on the hub
GROUPED = NO_PADDING | {"num_key_value_heads": 2, "attention_dropout": 0.1}
# README's name: the stem of the class names, the pooling, and settings added to SMALL or replacing some of it.
FAMILIES: dict[str, tuple[str, str, dict]] = {
    "BERT": ("Bert", "pooler", {}),
    "RoBERTa": ("Roberta", "pooler", {}),
    "XLM-RoBERTa": ("XLMRoberta", "pooler", {}),
    "CamemBERT": ("Camembert", "pooler", {}),
    "ELECTRA": ("Electra", "first", {"embedding_size": 16}),
    "ALBERT": ("Albert", "pooler", {"embedding_size": 16, "num_hidden_layers": 3, "hidden_dropout_prob": 0.1}),
    "DistilBERT": ("DistilBert", "first", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
    "MPNet": ("MPNet", "pooler", {}),
    "ModernBERT": (
        *("ModernBert", "mean"),
        {"num_hidden_layers": 4, "global_attn_every_n_layers": 2, "local_attention": 4, "attention_dropout": 0.1},
    ),
    "DeBERTa": ("Deberta", "first", DISENTANGLED),
    "DeBERTa-v2/v3": ("DebertaV2", "first", DISENTANGLED | {"position_buckets": 8, "share_att_key": True}),
    "GPT-2": ("GPT2", "last", NO_PADDING),
    "Llama": ("Llama", "last", GROUPED),
    "Qwen2": ("Qwen2", "last", GROUPED),
    "Qwen3": ("Qwen3", "last", GROUPED | {"head_dim": 8}),
}
EAGER_ONLY = {"MPNet", "DeBERTa", "DeBERTa-v2/v3"}  # transformers has only eager attention for them
NOT_CHECKPOINTED = {"ALBERT", "MPNet"}  # transformers does not support it


def family(name: str, attention: str = "eager", **config) -> PreTrainedModel:
    """A random encoder of a family, with the same weights at each call."""
    stem, _, settings = FAMILIES[name]
    config_class = getattr(transformers, f"{stem}Config")
    torch.manual_seed(0)
    family_config = config_class(**SMALL | settings | config)
    return getattr(transformers, f"{stem}Model")._from_config(family_config, attn_implementation=attention)
