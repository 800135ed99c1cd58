"""Make the embedded demo again: a small language, three tasks in it, and a tiny encoder pretrained on it.

    python scripts/make_demo.py data      writes spt/demo/{pair,choice,ner}, byte for byte as committed
    python scripts/make_demo.py encoder   pretrains spt/demo/encoder (some minutes on a CPU)

The language has agents that act on things in places, causes with their effects, and names made of syllables. The
encoder is a BERT of three layers, pretrained on it by masked words and next sentences, stored in float16.
"""

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

DEMO = Path(__file__).resolve().parent.parent / "spt" / "demo"

AGENTS = "baker farmer teacher doctor sailor painter soldier singer student lawyer driver hunter".split()
THINGS = "apple basket bottle candle carpet hammer ladder lantern letter mirror needle pillow ribbon wagon".split()
ADJECTIVES = "red blue green old new small large heavy light clean broken empty".split()
VERBS = {"bought": "purchased", "found": "discovered", "fixed": "repaired", "hid": "concealed", "lost": "misplaced"}
VERBS |= {"moved": "shifted", "sold": "traded", "took": "grabbed"}
PLACES = "market garden kitchen harbor forest library station village".split()
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
    "the {THING} was sold at the {PLACE} .",
]


def action(rng: random.Random) -> dict[str, str]:
    """Who did what to which thing where."""
    return {
        "agent": rng.choice(AGENTS),
        "verb": rng.choice(sorted(VERBS)),
        "adjective": rng.choice(ADJECTIVES),
        "thing": rng.choice(THINGS),
        "place": rng.choice(PLACES),
    }


def told(event: dict[str, str]) -> str:
    """The premise: the whole event."""
    return "the {agent} {verb} the {adjective} {thing} in the {place} .".format(**event)


def retold(event: dict[str, str], rng: random.Random) -> str:
    """A hypothesis: a part of the event, in other words."""
    frames = ("the {agent} {synonym} the {thing} .", "the {thing} was {adjective} .", "the {agent} was in the {place} .")
    return rng.choice(frames).format(**event, synonym=VERBS[event["verb"]])


def changed(event: dict[str, str], rng: random.Random) -> dict[str, str]:
    """Another event that differs in everything a hypothesis can mention."""
    other = action(rng)
    while any(other[slot] == event[slot] for slot in event):
        other = action(rng)
    return other


def pair(rng: random.Random) -> dict:
    """Does the hypothesis follow from the premise?"""
    event, holds = action(rng), rng.random() < 0.5
    if holds:
        hypothesis = retold(event, rng)
    elif rng.random() < 0.5:
        hypothesis = retold(changed(event, rng), rng)
    else:  # the harder half: only one word is wrong
        hypothesis = retold(event, rng)
        while hypothesis_holds(event, hypothesis):
            slot = rng.choice(("agent", "thing", "place", "adjective"))
            hypothesis = retold(event | {slot: changed(event, rng)[slot]}, rng)
    return {"premise": told(event), "hypothesis": hypothesis, "label": "yes" if holds else "no"}


def hypothesis_holds(event: dict[str, str], hypothesis: str) -> bool:
    """Whether every content word of a hypothesis is the event's."""
    words = set(hypothesis.split()) - {"the", "was", "in", "."}
    return words <= {*event.values(), VERBS[event["verb"]]}


def choice(rng: random.Random) -> dict:
    """Which of two sentences is the cause, or the effect, of a third?"""
    thing, question = rng.choice(THINGS + AGENTS), rng.choice(("cause", "effect"))
    right, wrong = rng.sample(CAUSES, 2)
    given, asked = (1, 0) if question == "cause" else (0, 1)
    options = [right[asked].format(x=thing) + " .", wrong[asked].format(x=thing) + " ."]
    label = rng.randrange(2)
    if label == 1:
        options.reverse()
    premise = right[given].format(x=thing) + " ."
    return {"premise": premise, "choice1": options[0], "choice2": options[1], "question": question, "label": label}


def sentence(rng: random.Random) -> list[tuple[str, str]]:
    """Words with their tags. Names carry no hint of their type: the words around them do."""
    tagged: list[tuple[str, str]] = []
    for word in rng.choice(FRAMES).split():
        if word == "{THING}":
            tagged.append((rng.choice(THINGS), "O"))
        elif word == "{PLACE}":
            tagged.append((rng.choice(PLACES), "O"))
        elif word.startswith("{"):
            kind = word.strip("{}")
            names = ["".join(rng.choices(SYLLABLES, k=rng.choice((2, 3)))) for _ in range(rng.choice((1, 1, 2)))]
            tagged += [(name, f"{'I' if i else 'B'}-{kind}") for i, name in enumerate(names)]
        else:
            tagged.append((word, "O"))
    return tagged


def write_data(demo: Path = DEMO) -> None:
    """Write the three tasks' files."""
    for name, make, sizes in (
        ("pair", pair, {"train": 1000, "val": 200}),
        ("choice", choice, {"train": 400, "val": 200}),
    ):
        for split, lines in distinct(name, make, sizes).items():
            (demo / name).mkdir(parents=True, exist_ok=True)
            (demo / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (demo / "ner").mkdir(parents=True, exist_ok=True)
    for split, lines in distinct("ner", sentence, {"train": 200, "dev": 150, "test": 150}).items():
        text = "\n".join("".join(f"{word}\t{tag}\n" for word, tag in tagged) for tagged in lines)
        (demo / "ner" / f"{split}.txt").write_text(text)


def distinct(name: str, make: Callable[[random.Random], object], sizes: dict[str, int]) -> dict[str, list]:
    """Splits of a task, no example in two of them."""
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
    """Endless pretraining text: two sentences, and whether the second goes on from the first (1) or not (0)."""
    while True:
        follows = rng.random() < 0.5
        kind = rng.randrange(3)
        if kind == 0:
            event = action(rng)
            yield told(event), retold(event if follows else changed(event, rng), rng), int(follows)
        elif kind == 1:
            thing = rng.choice(THINGS + AGENTS)
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
    """Special tokens, all words of the language, and the syllables at the start and inside of a name."""
    text = " ".join([*FRAMES, *(half for both in CAUSES for half in both), *AGENTS, *THINGS, *ADJECTIVES, *PLACES])
    text += " " + " ".join([*VERBS, *VERBS.values()]) + " because so was in the a yes no ?"
    words = {word for word in text.split() if "{" not in word}
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*SYLLABLES, *(f"##{syllable}" for syllable in SYLLABLES)]
    return specials + sorted(words) + [piece for piece in pieces if piece not in words]


def pretrain(demo: Path = DEMO, steps: int = 6000, batch: int = 64) -> None:
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
    stream = documents(random.Random(0))
    for step in range(1, steps + 1):
        rows = [next(stream) for _ in range(batch)]
        encoded = tokenizer([row[0] for row in rows], [row[1] for row in rows])
        inputs = collate([{key: encoded[key][i] for key in encoded} for i in range(batch)])
        # BERT's own convention: 0 where the second sentence follows.
        follows = torch.tensor([1 - row[2] for row in rows])
        loss = model(**inputs, next_sentence_label=follows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 200 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.bert.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    makers = {"data": write_data, "encoder": pretrain}
    if len(sys.argv) != 2 or sys.argv[1] not in makers:
        sys.exit(__doc__)
    makers[sys.argv[1]]()
