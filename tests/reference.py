"""SPT in a BERT and a RoBERTa, written out plainly from the paper, in float64: numbers to hold ours against.

It shares no code with `spt` or transformers: weights are a dict under transformers' names. The committed fixtures are

    python -m tests.reference       writes tests/fixtures/*.safetensors
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

FIXTURES = Path(__file__).parent / "fixtures"
LAYERS, HEADS, HIDDEN, INTERMEDIATE, VOCAB, POSITIONS, PREFIX, LABELS = 2, 2, 8, 12, 30, 32, 3, 3
SL_WEIGHT = 0.5

# name: (family, task type, alpha, shift_positions)
CASES = {
    "bert_sentence_gate": ("bert", "sentence", 8.0, False),
    "bert_choice_gate": ("bert", "choice", 2.0, False),
    "bert_token_plain": ("bert", "token", None, True),
    "roberta_sentence_gate": ("roberta", "sentence", 0.5, False),
    "roberta_token_gate": ("roberta", "token", 16.0, False),
    "roberta_sentence_plain": ("roberta", "sentence", None, True),
}


def weights(family: str, task_type: str, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """A random model, far enough from its initialisation for every term to matter."""

    def draw(*shape: int) -> torch.Tensor:
        return 0.5 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    w = {
        "embeddings.word_embeddings.weight": draw(VOCAB, HIDDEN),
        "embeddings.position_embeddings.weight": draw(POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": draw(2 if family == "bert" else 1, HIDDEN),
        "pooler.dense.weight": draw(HIDDEN, HIDDEN),
        "pooler.dense.bias": draw(HIDDEN),
        "classifier.weight": draw(1 if task_type == "choice" else LABELS, HIDDEN),
        "classifier.bias": draw(1 if task_type == "choice" else LABELS),
    }
    shapes = {
        "attention.self.query": (HIDDEN, HIDDEN),
        "attention.self.key": (HIDDEN, HIDDEN),
        "attention.self.value": (HIDDEN, HIDDEN),
        "attention.output.dense": (HIDDEN, HIDDEN),
        "intermediate.dense": (INTERMEDIATE, HIDDEN),
        "output.dense": (HIDDEN, INTERMEDIATE),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        for name, shape in shapes.items():
            w[f"{prefix}.{name}.weight"], w[f"{prefix}.{name}.bias"] = draw(*shape), draw(shape[0])
        norms += [f"{prefix}.attention.output.LayerNorm", f"{prefix}.output.LayerNorm"]
        for kind in ("key_prefix", "value_prefix"):
            w[f"{prefix}.attention.self.prefix.{kind}"] = draw(PREFIX, HIDDEN)
    for norm in norms:
        w[f"{norm}.weight"], w[f"{norm}.bias"] = 1 + draw(HIDDEN), draw(HIDDEN)
    return w


def inputs(family: str, task_type: str, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Three texts (of two choices each), padded on the right, with labels."""
    shape = (3, 2, 7) if task_type == "choice" else (3, 7)
    mask = torch.ones(shape, dtype=torch.long)
    mask[1, ..., 5:] = 0
    mask[2, ..., 3:] = 0
    ids = torch.randint(3, VOCAB, shape, generator=generator).masked_fill(mask == 0, 1 if family == "roberta" else 0)
    made = {"input_ids": ids, "attention_mask": mask}
    if family == "bert":
        made["token_type_ids"] = torch.randint(0, 2, shape, generator=generator) * mask
    classes = 2 if task_type == "choice" else LABELS
    made["labels"] = torch.randint(0, classes, (3, 7) if task_type == "token" else (3,), generator=generator)
    return made


def forward(w, data, family, task_type, alpha, shift):
    """Logits, task loss, selective loss and the attention weights of each layer."""
    ids, mask = (data[name].flatten(0, -2) for name in ("input_ids", "attention_mask"))
    offset = PREFIX if shift else 0
    if family == "bert":
        positions = torch.arange(offset, offset + ids.shape[1]).expand(len(ids), -1)
        types = data["token_type_ids"].flatten(0, -2)
    else:
        real = (ids != 1).long()
        positions = (real.cumsum(1) + offset) * real + 1
        types = torch.zeros_like(ids)
    x = (
        w["embeddings.word_embeddings.weight"][ids]
        + w["embeddings.position_embeddings.weight"][positions]
        + w["embeddings.token_type_embeddings.weight"][types]
    )
    x = _norm(x, w, "embeddings.LayerNorm")
    attentions = []
    for layer in range(LAYERS):
        p = f"encoder.layer.{layer}"
        q, k, v = (_heads(_linear(x, w, f"{p}.attention.self.{n}")) for n in ("query", "key", "value"))
        kp, vp = (_heads(w[f"{p}.attention.self.prefix.{n}"][None]) for n in ("key_prefix", "value_prefix"))
        prefix_scores = q @ kp.transpose(2, 3) / math.sqrt(HIDDEN // HEADS)
        if alpha is not None:
            prefix_scores = prefix_scores + torch.log(torch.sigmoid(alpha * prefix_scores))
        text_scores = q @ k.transpose(2, 3) / math.sqrt(HIDDEN // HEADS)
        text_scores = text_scores.masked_fill(mask[:, None, None] == 0, -math.inf)
        a = torch.cat([prefix_scores, text_scores], dim=-1).softmax(-1)
        attentions.append(a)
        context = a[..., :PREFIX] @ vp + a[..., PREFIX:] @ v
        context = context.transpose(1, 2).flatten(2)
        x = _norm(_linear(context, w, f"{p}.attention.output.dense") + x, w, f"{p}.attention.output.LayerNorm")
        inner = F.gelu(_linear(x, w, f"{p}.intermediate.dense"))
        x = _norm(_linear(inner, w, f"{p}.output.dense") + x, w, f"{p}.output.LayerNorm")
    if task_type != "token":
        x = torch.tanh(_linear(x[:, 0], w, "pooler.dense"))
    logits = _linear(x, w, "classifier")
    labels = data["labels"]
    if task_type == "choice":
        logits = logits.view(3, 2)
    elif task_type == "token":
        labels = labels.masked_fill(mask == 0, -100)
    return logits, F.cross_entropy(logits.flatten(0, -2), labels.flatten()), _selective_loss(w), attentions


def _linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _norm(x, w, name):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-12).sqrt()
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def _heads(x):
    return x.unflatten(-1, (HEADS, HIDDEN // HEADS)).transpose(1, 2)


def _selective_loss(w):
    total = 0.0
    for name, matrix in w.items():
        if name.endswith("_prefix"):
            unit = matrix / (matrix.square().sum(1, keepdim=True) + 1e-8).sqrt()
            total = total + sum((unit[i] @ unit[j]).abs() for i in range(PREFIX) for j in range(i + 1, PREFIX))
    return total / (LAYERS * PREFIX * (PREFIX - 1))


def make(case: str) -> dict[str, torch.Tensor]:
    """A fixture: weights, inputs, and what comes of them, with the gradient of everything that trains."""
    family, task_type, alpha, shift = CASES[case]
    generator = torch.Generator().manual_seed(sorted(CASES).index(case))
    w = weights(family, task_type, generator)
    data = inputs(family, task_type, generator)
    trained = {n: t.requires_grad_() for n, t in w.items() if n.endswith("_prefix") or n.startswith("classifier.")}
    logits, loss, selective, attentions = forward(w, data, family, task_type, alpha, shift)
    gradients = torch.autograd.grad(loss + SL_WEIGHT * selective, list(trained.values()))
    fixture = {f"state.{name}": tensor.detach() for name, tensor in w.items()}
    fixture |= {f"input.{name}": tensor for name, tensor in data.items()}
    fixture |= {f"grad.{name}": g for name, g in zip(trained, gradients, strict=True)}
    fixture |= {f"attentions.{i}": a.detach() for i, a in enumerate(attentions)}
    fixture |= {"logits": logits.detach(), "loss": loss.detach(), "selective_loss": selective.detach()}
    return {name: tensor.contiguous() for name, tensor in fixture.items()}


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    for name in CASES:
        save_file(make(name), FIXTURES / f"{name}.safetensors")
