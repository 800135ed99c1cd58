"""Rebuild the demo: a small artificial language, three tasks in it, and a tiny encoder pretrained on it.

    python scripts/make_demo.py data      writes spt/demo/{pair,choice,ner}, byte for byte as committed
    python scripts/make_demo.py encoder   pretrains spt/demo/encoder (some minutes on a CPU)

The language has things that causes have effects on, and names made of syllables. The encoder is a BERT of three layers,
pretrained on it by masked words and next sentences, stored in float16.
"""

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

DEMO = Path(__file__).resolve().parent.parent / "spt" / "demo"

THINGS = "apple basket bottle candle carpet hammer ladder lantern letter mirror needle pillow ribbon wagon".split()
CAUSES = [
    ("the {x} fell on the stone", "the {x} broke"),
    ("it rained all night on the {x}", "the {x} got wet"),
    ("the sun burned over the {x}", "the {x} became hot"),
    ("snow covered the {x}", "the {x} became cold"),
    ("a thief came for the {x}", "the {x} was gone"),
    ("the {x} stood near the fire", "the {x} turned black"),
    ("dust blew over the {x}", "the {x} looked dirty"),
    ("someone washed the {x}", "the {x} looked clean"),
    ("a friend painted the {x}", "the {x} had a bright color"),
    ("nobody wanted the {x}", "the {x} stayed in the shop"),
    ("the wind pushed the {x}", "the {x} rolled away"),
    ("a child pulled the {x}", "the {x} tipped over"),
]
SYLLABLES = "ba do fi ga ho ka le mi no pe ra so ta ve zu lor nak rim sul tev".split()
FRAMES = [
    "mr {PER} went to {LOC} .",
    "{PER} and {PER} met in {LOC} .",
    "the people of {LOC} like {PER} .",
    "{ORG} inc opened an office in {LOC} .",
    "{PER} works for {ORG} .",
    "shares of {ORG} fell after {PER} left .",
    "{ORG} and {ORG} signed a contract near {LOC} .",
    "president {PER} said that {ORG} would close .",
    "the road from {LOC} to {LOC} is long .",
    "{ORG} hired {PER} last year .",
    "it was cold in {LOC} when {PER} came .",
    "the {THING} was sold at the old market .",
]


def pair(rng: random.Random) -> dict:
    """Does the hypothesis follow from the premise? No: another cause's effect, or the cause after its effect."""
    thing = rng.choice(THINGS)
    (cause, effect), (_, other) = rng.sample(CAUSES, 2)
    holds = rng.random() < 0.5
    premise, hypothesis = (cause, effect) if holds else rng.choice(((cause, other), (effect, cause)))
    return {
        "premise": premise.format(x=thing) + " .",
        "hypothesis": hypothesis.format(x=thing) + " .",
        "label": "yes" if holds else "no",
    }


def choice(rng: random.Random) -> dict:
    """Which of two sentences is the cause, or the effect, of a third?"""
    thing, question = rng.choice(THINGS), rng.choice(("cause", "effect"))
    right, wrong = rng.sample(CAUSES, 2)
    given, asked = (1, 0) if question == "cause" else (0, 1)
    options = [right[asked].format(x=thing) + " .", wrong[asked].format(x=thing) + " ."]
    label = rng.randrange(2)
    if label == 1:
        options.reverse()
    premise = right[given].format(x=thing) + " ."
    return {"premise": premise, "choice1": options[0], "choice2": options[1], "question": question, "label": label}


def sentence(rng: random.Random) -> list[tuple[str, str]]:
    """Words with their tags. The type of a name follows from the words around it, not from the name."""
    tagged: list[tuple[str, str]] = []
    for word in rng.choice(FRAMES).split():
        if word == "{THING}":
            tagged.append((rng.choice(THINGS), "O"))
        elif word.startswith("{"):
            kind = word.strip("{}")
            names = ["".join(rng.choices(SYLLABLES, k=rng.choice((2, 3)))) for _ in range(rng.choice((1, 1, 2)))]
            tagged += [(name, f"{'I' if i else 'B'}-{kind}") for i, name in enumerate(names)]
        else:
            tagged.append((word, "O"))
    return tagged


def write_data(demo: Path = DEMO) -> None:
    """Write the files of the three tasks."""
    for name, make, sizes in (
        ("pair", pair, {"train": 200, "val": 120}),
        ("choice", choice, {"train": 200, "val": 200}),
    ):
        for split, lines in distinct(name, make, sizes).items():
            (demo / name).mkdir(parents=True, exist_ok=True)
            (demo / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (demo / "ner").mkdir(parents=True, exist_ok=True)
    for split, lines in distinct("ner", sentence, {"train": 200, "dev": 150, "test": 150}).items():
        text = "\n".join("".join(f"{word}\t{tag}\n" for word, tag in tagged) for tagged in lines)
        (demo / "ner" / f"{split}.txt").write_text(text)


def distinct(name: str, make: Callable[[random.Random], object], sizes: dict[str, int]) -> dict[str, list]:
    """The splits of a task; no example is in two of them."""
    rng = random.Random(name)
    seen: set[str] = set()
    splits: dict[str, list] = {}
    for split, size in sizes.items():
        splits[split] = []
        while len(splits[split]) < size:
            example = make(rng)
            if str(example) not in seen:
                seen.add(str(example))
                splits[split].append(example)
    return splits


def documents(rng: random.Random) -> Iterator[tuple[str, str, int]]:
    """Infinite pretraining text: two sentences, and whether the second follows from the first (1) or not (0)."""
    while True:
        follows = rng.random() < 0.5
        if rng.random() < 0.6:
            thing = rng.choice(THINGS)
            right, other = rng.sample(CAUSES, 2)
            cause, effect = (half.format(x=thing) + " ." for half in (right[0], (right if follows else other)[1]))
            swapped = rng.random() < 0.5
            first, second = (f"{effect} because", cause) if swapped else (f"{cause} so", effect)
            yield first, second, int(follows)
        else:
            name = "".join(rng.choices(SYLLABLES, k=2))
            frames = rng.sample(FRAMES[:-1], 2)
            kinds = [k for k in ("PER", "LOC", "ORG") if all(f"{{{k}}}" in frame for frame in frames)]
            if not kinds:
                continue
            texts = []
            for number, frame in enumerate(frames):
                shared = name if follows or number == 0 else "".join(rng.choices(SYLLABLES, k=2))
                frame = frame.replace(f"{{{kinds[0]}}}", shared, 1)
                while "{" in frame:
                    start, end = frame.index("{"), frame.index("}")
                    frame = frame[:start] + "".join(rng.choices(SYLLABLES, k=rng.choice((2, 3)))) + frame[end + 1 :]
                texts.append(frame)
            yield texts[0], texts[1], int(follows)


def vocabulary() -> list[str]:
    """Special tokens, all words of the language, and syllables at the start of a name and inside it."""
    text = " ".join([*FRAMES, *(half for both in CAUSES for half in both), *THINGS, "because", "so"])
    words = {word for word in text.split() if "{" not in word}
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*SYLLABLES, *(f"##{syllable}" for syllable in SYLLABLES)]
    return specials + sorted(words) + [piece for piece in pieces if piece not in words]


def pretrain(demo: Path = DEMO, steps: int = 4000, batch: int = 64) -> None:
    """Pretrain the encoder by masked words and next sentences."""
    import torch
    from transformers import (
        BertConfig,
        BertForPreTraining,
        BertTokenizer,
        DataCollatorForLanguageModeling,
        get_linear_schedule_with_warmup,
        set_seed,
    )

    set_seed(0)
    folder = demo / "encoder"
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {word: index for index, word in enumerate(vocabulary())}
    tokenizer = BertTokenizer(vocab=vocab, do_lower_case=True, model_max_length=64)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=384,
        max_position_embeddings=96,
    )
    model = BertForPreTraining(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 20, steps)
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.2)
    stream, rng = documents(random.Random(0)), random.Random(1)
    for step in range(1, steps + 1):
        rows = [next(stream) for _ in range(batch)]
        encoded = tokenizer([row[0] for row in rows], [row[1] for row in rows])
        inputs = collate([{key: encoded[key][i] for key in encoded} for i in range(batch)])
        # As in BERT: 0 if the second sentence follows.
        follows = torch.tensor([1 - row[2] for row in rows])
        # All positions are trained, not only the first ones: prefix tuning shifts them.
        free = config.max_position_embeddings - inputs["input_ids"].shape[1]
        offset = rng.choice((0, rng.randrange(free)))
        positions = torch.arange(offset, offset + inputs["input_ids"].shape[1])[None]
        out = model(**inputs, position_ids=positions, next_sentence_label=follows)
        loss = out.loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 200 == 0:
            right = (out.seq_relationship_logits.argmax(-1) == follows).float().mean().item()
            print(f"step {step}: loss {loss.item():.3f}, next sentence {right:.2f}", flush=True)
    model.bert.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    makers = {"data": write_data, "encoder": pretrain}
    if len(sys.argv) != 2 or sys.argv[1] not in makers:
        sys.exit(__doc__)
    makers[sys.argv[1]]()
