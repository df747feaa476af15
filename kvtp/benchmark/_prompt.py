"""Named prompt presets."""

from kvtp.benchmark._letters import letters
from kvtp.types import Prompt, Question

CHOOSE = "Answer with the option's letter from the given choices directly."  # LLaVA-1.5, and the field since
WRITE = "Answer with a single word or a short phrase."


def letter_prompt(question: Question) -> Prompt:
    """Preset `letter`: question, options `A. …` one per line, instruction; open questions ask for a short reply."""
    lines = [question.text]
    choices: tuple[str, ...] = ()
    if question.options is not None:
        choices = letters(question.options)
        lines += [f"{letter}. {option}" for letter, option in zip(choices, question.options, strict=True)]
    lines.append(CHOOSE if choices else WRITE)
    return Prompt("\n".join(lines), question.text, (0, len(question.text)), "letter", choices)
