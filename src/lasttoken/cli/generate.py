"""The command generate: text from a backbone, to see that its weights are right."""

from __future__ import annotations

from typing import Annotated

import typer

from lasttoken.cli.flags import BackboneName, Json, Offline, Quiet
from lasttoken.cli.show import print_json, print_line, terminal


def generate(
    backbone: BackboneName,
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Maximum number of new tokens.")] = 25,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Sampling temperature; 0: the most probable token each time.")
    ] = 0.0,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Sample from the k most probable tokens only.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sampling.")] = 123,
    stop_at_end: Annotated[bool, typer.Option("--stop-at-end", help="Stop at the end-of-text token.")] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a backbone continue a text.

    Fluent text shows that the weights were loaded correctly.
    """
    from lasttoken.backbone.generation import generate as continue_text
    from lasttoken.backbone.pretrained import check_writes, load_backbone

    reporter = terminal(quiet)
    check_writes(backbone, offline, reporter)
    loaded = load_backbone(backbone, offline, reporter=reporter)
    ids = loaded.prompt_ids(prompt)
    stop_id = loaded.end_of_text_id if stop_at_end else None
    generation = continue_text(
        loaded.decoder,
        ids,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
        stop_id=stop_id,
    )
    text = loaded.tokenizer.decode([*ids[len(loaded.prefix_ids) :], *generation.token_ids])
    if generation.full:
        reporter.say(
            f"the context of {loaded.config.n_positions} tokens is full: stopped after "
            f"{len(generation.token_ids)} new tokens"
        )
    if as_json:
        token_ids = {"prompt_token_ids": ids, "token_ids": generation.token_ids}
        print_json({"text": text, **token_ids, "context_full": generation.full})
    else:
        print_line(text)
