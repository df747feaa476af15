"""CLIP's similarity of question and picture, as in KeyVideoLLM (arXiv 2407.03104)."""

from kvtp.relevance._similarity import Similarity


class Clip(Similarity):
    """Cosines times CLIP's logit scale."""

    family = "clip"
