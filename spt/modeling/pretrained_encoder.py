"""A pretrained encoder and its tokenizer, from the hub or a local folder."""

import hashlib
import json
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, file_exists, hf_hub_download, try_to_load_from_cache
from omegaconf import OmegaConf
from tokenizers import normalizers
from tokenizers.processors import Sequence, TemplateProcessing
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from spt.errors import SptError, nearest
from spt.hub_errors import hub_error
from spt.paths import CONF, local_path

log = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16", "float16", "float64")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
COMMIT = re.compile("[0-9a-f]{40}")
HEAD_SETTINGS = ("name", "pooling", "missing_pooler")  # of conf/model, for others than `load_backbone`

# Texts that tokenizers treat differently: case, accents (one character, or two), width, ligatures, spaces and control
# characters, punctuation, numbers, scripts, words that are not in a vocabulary.
PROBES = (
    "The quick Brown fox doesn't jump over 13 lazy dogs; MIXED camelCase snake_case under-scored e-mail@host.org #1!",
    "  Two  spaces,\ttab\nline\u00a0no-break\u200bzero-width\u0007bell\u00adsoft ",
    "Élève naïve Ñandú Ångström cafe\u0301 straße İstanbul ﬁne Ｆｕｌｌ ½ ² № “quotes” ‘it’s’ – — … €5",
    "3.14159 1,000,000 2024-01-31 12:30 10% $20 +49 (0) 123 http://www.example.org/a?b=c&d=1 <b>x</b> [x] {y} a/b\\c",
    "Привет мир Ελλάδα שלום مرحبا नमस्ते สวัสดี 你好世界 こんにちは カタカナ 한국어 😀👍🏽 \ue000",
    "antidisestablishmentarianism Donaudampfschifffahrt zxqvkjwpffgh unaffable tokenization internationalisation",
    "",
)
CUT = 6  # tokens that probes are truncated to

_loading = threading.Lock()  # loading a model changes torch's default dtype and settings of transformers


def load_backbone(
    name_or_path: str,
    revision: str = "main",
    attn_implementation: str = "sdpa",
    dtype: str = "float32",
    config: dict[str, Any] | None = None,
    tokenizer: dict[str, Any] | None = None,
    split_into_words: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an encoder (safetensors only, no code from the hub) and its tokenizer, which pads on the right.

    A tokenizer without a padding token pads with its end-of-text token. One that puts nothing between the texts of a
    pair (GPT-2, Qwen) puts its end-of-text token there.

    Args:
        name_or_path: a hub id, or a folder with config.json, model.safetensors and the tokenizer's files.
        revision: branch, tag or commit on the hub. Where "main" has no safetensors, the pull request that the hub's
            conversion bot has opened is loaded, and a warning names it.
        attn_implementation: "sdpa" (fused) or "eager" (the equation as it is written).
        dtype: of the weights, one of DTYPES.
        config: entries of the model's configuration to replace, such as hidden_dropout_prob.
        tokenizer: further arguments of the tokenizer.
        split_into_words: whether texts come as lists of words. Tokenizers that mark words by the space before them
            (RoBERTa) then put one before each.

    Raises:
        SptError: if the model cannot be loaded, or its checkpoint lacks more than a pooler.
    """
    if dtype not in DTYPES:
        raise SptError(f"unknown model.dtype={dtype!r}: {nearest(dtype, DTYPES)}")
    if not isinstance(attn_implementation, str):
        raise SptError(f"model.attn_implementation must be sdpa or eager, not {attn_implementation!r}")
    if "/" in attn_implementation:
        raise SptError(f"model.attn_implementation={attn_implementation!r} is code on the hub, which spt does not run")
    for name, changes in (("config", config), ("tokenizer", tokenizer)):
        if not isinstance(changes, dict | None):
            raise SptError(f"model.{name} must be names with values, as model.{name}={{a: 1}}, not {changes!r}")
    if revision != "main" and is_local(name_or_path):
        raise SptError(f"model.revision={revision!r} is for a model on the hub, and {name_or_path!r} is a folder")
    with _loading, _quiet():
        revision = commit_of(name_or_path, revision) or revision
        encoder = _load_encoder(name_or_path, revision, attn_implementation, getattr(torch, dtype), config or {})
        text_tokenizer = load_tokenizer(name_or_path, revision, tokenizer, split_into_words)
    embeddings = _number_of_embeddings(encoder)
    if text_tokenizer.vocab_size <= len(text_tokenizer.all_special_ids):
        raise SptError(f"the tokenizer of {name_or_path!r} has no vocabulary: tokenizer.json is missing")
    token, number = max(text_tokenizer.get_vocab().items(), key=lambda item: item[1])
    if number >= embeddings:
        added = token in text_tokenizer.get_added_vocab()
        remedy = ": it was added without model.resize_token_embeddings(len(tokenizer))" if added else ""
        raise SptError(
            f"{name_or_path!r} does not fit its tokenizer, whose token {token!r} has the number {number}, and there "
            f"are embeddings for {embeddings}{remedy}"
        )
    return encoder, text_tokenizer


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers reports errors alone in the block: spt says itself what a checkpoint lacks."""
    verbosity, has_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if has_bars:
            transformers_logging.enable_progress_bar()


def _number_of_embeddings(encoder: PreTrainedModel) -> int:
    try:
        table = encoder.get_input_embeddings()
    except NotImplementedError:
        table = None
    if not isinstance(table, nn.Embedding):
        raise SptError(f"{type(encoder).__name__} has no embeddings of tokens: choose a model of text")
    return table.num_embeddings


def backbone_settings(model: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `load_backbone` in a config of `conf/model`, which also has settings of the head.

    The revision that a file of `conf/model` pins is left out where another name_or_path replaces the file's own.

    Raises:
        SptError: if there is a setting that neither has.
    """
    settings = {key: value for key, value in model.items() if key not in HEAD_SETTINGS}
    known = signature(load_backbone).parameters.keys() - {"split_into_words"}
    if unknown := sorted(settings.keys() - known):
        raise SptError(f"unknown option model.{unknown[0]}: {nearest(unknown[0], {*known, *HEAD_SETTINGS})}")
    for name, path, revision in _pinned_revisions():
        # A commit is of one repository; a branch of the same name may be in another.
        is_pinned = COMMIT.fullmatch(revision) or name == model.get("name")
        if is_pinned and settings.get("revision") == revision and settings.get("name_or_path") != path:
            del settings["revision"]
    return settings


@cache
def _pinned_revisions() -> list[tuple[str, str, str]]:
    """The models of `conf/model` that pin a revision: name, repository, revision."""
    files: list[Any] = [OmegaConf.load(path) for path in (CONF / "model").glob("*.yaml")]
    return [(file.name, file.name_or_path, file.revision) for file in files if "revision" in file]


def load_tokenizer(
    name_or_path: str, revision: str = "main", options: dict[str, Any] | None = None, split_into_words: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of `load_backbone`, which has the same arguments."""
    reserved = signature(PreTrainedTokenizerBase.from_pretrained).parameters.keys() & (options or {}).keys()
    if reserved:
        raise SptError(f"model.tokenizer.{min(reserved)} cannot be set (it says where tokenizers come from): omit it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            _source(name_or_path), revision=revision, trust_remote_code=False, **options or {}
        )
    except Exception as error:
        raise _cannot_load("tokenizer", name_or_path, error) from error
    if not tokenizer.is_fast:
        raise SptError(
            f"the tokenizer of {name_or_path!r}, {type(tokenizer).__name__}, is written in Python alone and does not "
            "say which word a token is of: choose a model with a tokenizer.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise SptError(
            f"the tokenizer of {name_or_path!r} has no padding token: name one of its vocabulary, as in "
            "+model.tokenizer.pad_token='[PAD]'"
        )
    tokenizer.padding_side = "right"
    _separate_pairs(tokenizer)
    if split_into_words:
        _mark_words(tokenizer)
    return tokenizer


def _load_encoder(
    name_or_path: str, revision: str, attn_implementation: str, dtype: torch.dtype, changes: dict[str, Any]
) -> PreTrainedModel:
    source = _source(name_or_path)
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as error:
        raise _cannot_load("model", name_or_path, error) from error
    entries = {*config.to_dict(), *config.attribute_map}
    for name, value in changes.items():
        if name not in entries:
            raise SptError(f"model.config.{name}: {name_or_path!r} has no such entry: {nearest(name, entries)}")
        try:
            setattr(config, name, value)
        except Exception as error:
            raise SptError(f"model.config.{name}={value!r}: {' '.join(str(error).split())}") from error
    try:
        encoder, info = AutoModel.from_pretrained(
            source,
            config=config,
            revision=revision,
            attn_implementation=attn_implementation,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        if not _can_be_built(config, attn_implementation) and _can_be_built(config, "eager"):
            others = "eager" if attn_implementation == "sdpa" else "sdpa or eager"
            raise SptError(
                f"{source!r} does not support model.attn_implementation={attn_implementation!r}: choose {others}"
            ) from error
        raise _cannot_load("model", name_or_path, error) from error
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise SptError(
            f"the checkpoint of {name_or_path!r} lacks {missing[0]} and {len(missing) - 1} more of the weights of a "
            f"{type(encoder).__name__}: it is not a checkpoint of this architecture"
        )
    for name, parameter in encoder.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise SptError(f"the checkpoint of {name_or_path!r} is broken: not all numbers in {name} are finite")
    return encoder


def _can_be_built(config: PreTrainedConfig, attn_implementation: str) -> bool:
    """Whether there is a model of this configuration with this attention; it is made without memory for weights."""
    try:
        with torch.device("meta"):
            AutoModel.from_config(config, attn_implementation=attn_implementation, trust_remote_code=False)
    except Exception:
        return False
    return True


def _source(name_or_path: str) -> str:
    """The path of a folder with a model, or the hub id itself."""
    if not is_local(name_or_path):
        return name_or_path
    folder = local_path(name_or_path)
    if not (folder / "config.json").is_file():
        raise SptError(f"model.name_or_path={name_or_path!r} is not a folder with a model: it has no config.json")
    return str(folder)


def _cannot_load(what: str, name_or_path: str, error: Exception) -> SptError:
    message = f"cannot load the {what} {name_or_path!r}"
    if is_local(name_or_path):
        reason = next(iter(str(error).strip().splitlines()), "")
        needed = "The folder must hold config.json, model.safetensors and the tokenizer's files"
        return SptError(f"{message} ({type(error).__name__}: {reason}). {needed}")
    settings = "model.name_or_path and model.revision, where there must be a model.safetensors"
    return hub_error(message, name_or_path, error, settings, "set model.name_or_path to a folder with the model")


def _separate_pairs(tokenizer: PreTrainedTokenizerBase) -> None:
    """Put the end-of-text token between the texts of a pair where the tokenizer puts nothing (decoders)."""
    sequences = tokenizer("a", "b").sequence_ids(0)
    separator = tokenizer.eos_token or tokenizer.sep_token
    if (0, 1) not in pairwise(sequences) or separator is None:
        return
    backend = tokenizer.backend_tokenizer
    separated = TemplateProcessing(
        single="$A",
        pair=f"$A {separator} $B:1",
        special_tokens=[(separator, tokenizer.convert_tokens_to_ids(separator))],
    )
    own = backend.post_processor
    backend.post_processor = separated if own is None else Sequence([own, separated])


def _mark_words(tokenizer: PreTrainedTokenizerBase) -> None:
    """Put a space before each word of a list where the tokenizer knows words by the space before them (byte-level BPE).

    add_prefix_space is not for this: some tokenizers ignore it (ModernBERT), and Qwen's puts spaces inside words, too.
    """
    if tokenizer("a a")["input_ids"] != tokenizer(["a", "a"], is_split_into_words=True)["input_ids"]:
        backend = tokenizer.backend_tokenizer
        space = normalizers.Prepend(" ")
        backend.normalizer = space if backend.normalizer is None else normalizers.Sequence([backend.normalizer, space])


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of what a tokenizer makes of texts: its vocabulary, and the model inputs of PROBES, alone and in pairs.

    It depends on what a tokenizer gives, not on how it is stored: library versions that give the same ids have the
    same hash.
    """
    texts = [*PROBES, *(f"a{token}b {token} c" for token in sorted(tokenizer.all_special_tokens))]
    encoded = [
        tokenizer(texts, verbose=False),
        tokenizer(texts, texts[::-1], verbose=False),
        tokenizer(texts, truncation=True, max_length=CUT),
    ]
    inputs = [{name: each[name] for name in tokenizer.model_input_names if name in each} for each in encoded]
    whole = json.dumps([tokenizer.get_vocab(), inputs], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def is_local(name_or_path: str) -> bool:
    """Whether a name means a folder rather than a model on the hub."""
    return name_or_path.startswith(("/", ".", "~", "pkg://")) or local_path(name_or_path).is_dir()


def weights_hash(name_or_path: str) -> str | None:
    """The SHA-256 of a local model's weights; None for a model from the hub, which its commit identifies."""
    if not is_local(name_or_path):
        return None
    digest = hashlib.sha256()
    for path in sorted(local_path(name_or_path).glob("*.safetensors")):
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)  # adds the file to the digest
    return digest.hexdigest()


def commit_of(name_or_path: str, revision: str) -> str | None:
    """The hub's commit that a model is loaded from, weights, configuration and tokenizer; None for a folder.

    Raises:
        SptError: if the hub does not have it, or cannot be asked.
    """
    if is_local(name_or_path):
        return None
    try:
        return _commit_with_weights(name_or_path, revision)
    except Exception as error:
        raise _cannot_load("model", name_or_path, error) from error


@cache
def _commit_with_weights(repository: str, revision: str) -> str:
    commit = _commit(repository, revision)
    if revision != "main" or _has_weights(repository, commit) or (converted := _converted(repository)) is None:
        return commit
    commit = _commit(repository, converted)
    log.warning(
        "%s has no safetensors on main: those of %s are loaded, a pull request of the hub's conversion bot. "
        "model.revision=%s pins them, also for HF_HUB_OFFLINE=1",
        *(repository, converted, commit),
    )
    return commit


def _commit(repository: str, revision: str) -> str:
    return Path(hf_hub_download(repository, "config.json", revision=revision)).parent.name


def _has_weights(repository: str, commit: str) -> bool:
    is_cached = any(isinstance(try_to_load_from_cache(repository, name, revision=commit), str) for name in WEIGHTS)
    return is_cached or any(file_exists(repository, name, revision=commit) for name in WEIGHTS)


def _converted(repository: str) -> str | None:
    """The open pull request of the hub's conversion bot that adds safetensors to a repository's files."""
    requests = HfApi().get_repo_discussions(
        repository, author="SFconvertbot", discussion_type="pull_request", discussion_status="open"
    )
    references = (request.git_reference for request in requests)
    return next((each for each in references if each and _has_weights(repository, each)), None)
