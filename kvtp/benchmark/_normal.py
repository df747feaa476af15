"""Text as it is compared."""

import re
import unicodedata

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = re.compile(r"[^\w\s.]|(?<!\d)\.|\.(?!\d)")  # a decimal point stays


def normal(text: str) -> str:
    """Case-folded, without punctuation, articles and superfluous blanks (the normalisation of SQuAD and VQA)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = " ".join(_PUNCTUATION.sub(" ", folded).split())
    return " ".join(_ARTICLE.sub(" ", bare).split()) or bare
