"""The command push: a run's classifier, uploaded to a hub."""

from __future__ import annotations

from typing import Annotated

import typer

from lasttoken.cli.flags import Offline, RunDirectory, WithoutNgrams
from lasttoken.cli.show import print_line, terminal
from lasttoken.core.errors import NetworkError


def push(
    run: RunDirectory,
    repository: Annotated[str, typer.Argument(help="owner/name on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    without_ngrams: WithoutNgrams = False,
    offline: Offline = False,
) -> None:
    """Upload a classifier to a hub.

    It is exported as by export --to hf, and uploaded with its model card; HF_TOKEN and HF_ENDPOINT are the hub's own
    variables.
    """
    from lasttoken.export.push import push as upload

    if offline:
        raise NetworkError("push needs the network, and --offline forbids it")
    pushed = upload(run, repository, private=private, without_ngrams=without_ngrams)
    reporter = terminal(quiet=False)
    for note in pushed.notes:
        reporter.say(note)
    print_line(pushed.address)
