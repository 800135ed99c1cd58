"""The words of running text, for tasks on words."""

from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}"  # characters of texts without spaces: a word each

LETTERS = rf"[\w&&[^{UNSPACED}]]+"

# Words and punctuation marks, divided as in data for named entities: "Rome's" is two words, "U.S." and "AT&T" are one.
WORDS = Split(
    Regex(rf"\b(?:\p{{L}}\.){{2,}}(?!\w)|['’]s\b|[{UNSPACED}]|{LETTERS}(?:(?!['’]s\b)[-.'’&]{LETTERS})*|[^\w\s]"),
    "isolated",
)


def words_of(text: str) -> list[tuple[str, tuple[int, int]]]:
    """The words and punctuation marks of a text, each with its start and end (exclusive)."""
    return [(word, span) for word, span in WORDS.pre_tokenize_str(text) if not word.isspace()]
