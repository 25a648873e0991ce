"""A prompt: a question that stands around every text, so that the last token, which is pooled, has to answer it.

    --prompt "Message: {text}\\nThis message is about"       the parts around {text} are the same for all texts

backbone/prompt.py makes token ids of it.
"""

from __future__ import annotations

from lasttoken.core.errors import SettingsError

TEXT_PLACE = "{text}"
OWN_PROMPT, NO_PROMPT = "auto", "none"  # values of the setting that are no templates


def check_prompt(prompt: str, read: str) -> None:
    """Reject a prompt without a place for the text, and one that the pooling `read` would not read.

    Raises:
        SettingsError: names the prompt, and what is valid.
    """
    if prompt in (OWN_PROMPT, NO_PROMPT):
        return
    if (n_places := prompt.count(TEXT_PLACE)) != 1:
        raise SettingsError(
            f"--prompt is {prompt!r}, which has {TEXT_PLACE} {n_places} times; "
            f"give it once, where the text belongs, or use {OWN_PROMPT} or {NO_PROMPT}"
        )
    if read.startswith("padded-"):
        raise SettingsError(
            f"--prompt cannot be combined with --read {read} (--recipe book), which reads the padding behind a "
            "text; leave one of them out"
        )


def parts_of(template: str) -> tuple[str, str]:
    r"""What stands before the text, and what stands behind it.

    >>> parts_of("Message: {text}\nTopic:")
    ('Message: ', '\nTopic:')
    """
    before, _, behind = template.partition(TEXT_PLACE)
    return before, behind


def from_command_line(prompt: str) -> str:
    r"""A prompt as typed, where \n and \t are a newline and a tab.

    >>> from_command_line(r"{text}\nTopic:")
    '{text}\nTopic:'
    """
    return prompt.replace("\\n", "\n").replace("\\t", "\t")
