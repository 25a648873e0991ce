"""The frame of a text with a prompt: its tokens, inside those that the model's own tokenizer puts around a text.

    Llama 3   <|begin_of_text|>  Message:␣  the text's own tokens  \\nThis message is about
              └─── prefix_ids: its own, then the prompt's ───┘     └─ suffix_ids: the prompt's, then its own

The parts are encoded one by one, so a text has the tokens that it has alone. Special tokens that the template names are
special tokens; in a user's text they are text.
"""

from __future__ import annotations

from lasttoken.backbone.frame import Frame
from lasttoken.backbone.pretrained import Backbone
from lasttoken.core.errors import SettingsError
from lasttoken.core.prompt import parts_of

MAX_PROMPT = 256  # tokens


def frame_with_prompt(backbone: Backbone, template: str | None) -> Frame:
    """The token ids before and after every text; `template` None: those of the model's own tokenizer.

    Raises:
        SettingsError: the template has more than `MAX_PROMPT` tokens, or a token that the backbone does not embed.
    """
    if template is None:
        return backbone.prefix_ids, backbone.suffix_ids
    before, behind = (tuple(ids) for ids in backbone.tokenizer.encode_with_special(parts_of(template)))
    if (n_tokens := len(before) + len(behind)) > MAX_PROMPT:
        raise SettingsError(
            f"--prompt has {n_tokens:,} tokens without the text, and at most {MAX_PROMPT} are supported; shorten it"
        )
    if (largest := max((*before, *behind), default=0)) >= backbone.config.vocab_size:
        name = backbone.tokenizer.decode([largest])
        raise SettingsError(
            f"--prompt has the special token {name!r}, for which the backbone {backbone.name!r} has no embedding; "
            "leave it out"
        )
    return (*backbone.prefix_ids, *before), (*behind, *backbone.suffix_ids)
