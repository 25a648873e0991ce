"""A process that helps rank 0 to train: it does what the messages of rank 0 say until rank 0 has no more to do.

    device      where to compute
    classifier  load a backbone, put a head on it                          SharedTrunk
    trunk       features of every n-th batch of texts                      SharedTrunk.run
    train       prepare a training; then step, logits, …, end              LeadingUpdates
    quit        the end

It reads no data files, writes nothing but features, and prints nothing: texts come as tokens, in messages. A failure
goes to rank 0, which reports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lasttoken.backbone.pretrained import load_backbone
from lasttoken.backbone.random_weights import RandomWeights
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.encoding import Encoded
from lasttoken.core.config import Settings
from lasttoken.core.device import CPU, Device
from lasttoken.core.documents import checked
from lasttoken.core.errors import BackboneError, RankError
from lasttoken.core.process import scarce_memory
from lasttoken.core.team import Message, Team, sentence_of
from lasttoken.training.accumulation import MicroBatch
from lasttoken.training.depths import depths_work
from lasttoken.training.features import LiveFeatures, features_work, trunk_hash
from lasttoken.training.prepare import new_predictor
from lasttoken.training.shared_trunk import SharedTrunk, TrunkWork, share_trunk
from lasttoken.training.shared_updates import SharedUpdates, followed

QUIT = "quit"


def share_classifier(
    team: Team, classifier: Classifier, settings: Settings, offline: bool, trunk: str | None
) -> SharedTrunk:
    """Let every process make this classifier, which rank 0 has just made; `trunk` is the hash of its trunk."""
    facts = {
        "backbone": settings.backbone,
        "n_blocks": settings.n_blocks,
        "random_weights": settings.random_weights,
        "seed": settings.seed,
        "offline": offline,
        "config": asdict(replace(classifier.config, columns=None)),
        "trunk": trunk,
    }
    with team.work():
        team.send("classifier", facts)
    return SharedTrunk(team, next(team.numbers))


def make_classifier(facts: Mapping[str, Any], device: Device) -> Classifier:
    """The classifier that a message of `share_classifier` describes.

    Raises:
        BackboneError, NetworkError, SettingsError: see `load_backbone`; or this machine has another backbone of the
            name than rank 0.
    """
    kind = facts["random_weights"]
    drawn = None if kind is None else RandomWeights(kind, facts["seed"])
    backbone = load_backbone(facts["backbone"], facts["offline"], facts["n_blocks"], None, drawn)
    config = checked(ClassifierConfig, facts["config"], "the message of rank 0")
    classifier = new_predictor(backbone, config, facts["seed"], device).classifier
    if facts["trunk"] is not None and trunk_hash(classifier) != facts["trunk"]:
        raise BackboneError(f"the backbone {facts['backbone']} is not the one that process 0 has; copy it from there")
    return classifier


class Helper:
    """The state of a helping process."""

    def __init__(self, team: Team, make: Callable[[Mapping[str, Any], Device], Classifier] = make_classifier) -> None:
        self.team, self.make, self.device = team, make, CPU
        self.classifiers: list[Classifier] = []

    def run(self) -> None:
        """Do what rank 0 says until it says that there is no more.

        Raises:
            RankError: rank 0 has ended.
        """
        commands: dict[str, Callable[[Message], None]] = {
            "device": self._use_device,
            "classifier": self._add_classifier,
            "trunk": self._share_trunk,
            "train": self._train,
        }
        while (message := self.team.receive()).command != QUIT:
            commands[message.command](message)

    def _use_device(self, message: Message) -> None:
        self.team.use(message.facts["type"])
        self.device = Device(torch.device(message.facts["type"]), message.facts["precision"])

    def _add_classifier(self, message: Message) -> None:
        self.classifiers.append(self.make(message.facts, self.device))

    def _share_trunk(self, message: Message) -> None:
        share_trunk(self.team, message, partial(self._work, message.facts))

    def _work(self, facts: Mapping[str, Any], encoded: Encoded, put: Callable[[int, Tensor], None]) -> TrunkWork:
        classifier = self.classifiers[facts["classifier"]]
        if facts["kind"] == "depths":
            work = depths_work(classifier, self.device, encoded, facts["depths"], put)
        else:
            work = features_work(LiveFeatures(encoded, classifier, self.device), put)
        return replace(work, token_budget=facts["budget"])

    def _train(self, message: Message) -> None:
        classifier = self.classifiers[message.facts["classifier"]]
        if self.device == CPU:
            classifier.pack_updated()
        updates = followed(self.team, message, classifier, self.device)
        with scarce_memory(classifier.checkpoints_activations):
            updates.start(message.facts["shards"])
            while (message := self.team.receive()).command != "end":
                self._follow(updates, message)
            updates.stop()

    def _follow(self, updates: SharedUpdates, message: Message) -> None:
        if message.command == "collect":
            updates.collect_together()
            return
        facts, rows = message.facts, message.arrays["rows"].tolist()
        if message.command == "step":
            batch = MicroBatch(rows, facts["share"], facts["starts"], facts["updates"])
            updates.step(batch, facts["rate"])
        else:
            updates.logits_together(facts["split"], rows)


def help_train(team: Team, make: Callable[[Mapping[str, Any], Device], Classifier] = make_classifier) -> str | None:
    """Help until the end. Returns a sentence about what went wrong here, which rank 0 has been told; None: nothing."""
    try:
        Helper(team, make).run()
    except RankError as error:  # rank 0 has ended, and says why if it can
        team.close()
        return str(error)
    except Exception as error:
        team.fail(sentence_of(error))
        return sentence_of(error)
    team.close()
    return None
