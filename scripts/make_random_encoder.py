"""An encoder of BERT-base's size with random weights, to rehearse runs of real size where no pretrained one is at hand.

    python -m scripts.make_random_encoder models/bert-base-cased texts.txt [--seed 0]

The tokenizer is a cased WordPiece of BERT's, trained on a text file (any text with a line each) and filled up to the
28,996 entries of bert-base-cased. No result of such an encoder says anything about a method.
"""

import argparse
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, BertTokenizerFast

VOCABULARY = 28996  # of bert-base-cased


def make(folder: Path, texts: Path, seed: int, **sizes: int) -> None:
    """Write an encoder and its tokenizer to `folder`; `sizes` are settings of BertConfig, by default BERT-base's."""
    trainer = BertWordPieceTokenizer(lowercase=False)
    trainer.train([str(texts)], vocab_size=VOCABULARY, show_progress=False)
    vocabulary = trainer.get_vocab()
    vocabulary |= {f"[unused{number}]": number for number in range(len(vocabulary), VOCABULARY)}
    folder.mkdir(parents=True, exist_ok=True)
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    torch.manual_seed(seed)
    BertModel(BertConfig(vocab_size=VOCABULARY, **sizes)).save_pretrained(folder)


def main() -> None:
    """Parse the arguments and make the encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make(options.folder, options.texts, options.seed)


if __name__ == "__main__":
    main()
