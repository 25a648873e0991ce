"""LoRA against peft on transformers: the same loss at every step, and the same weights in the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lora_training import RATE, losses_of, settings_of
from miniature import classifier_of, labels_of, random_encoded, random_gpt
from rotary_miniatures import ROTARY_MINIATURES
from torch import Tensor, nn

from lasttoken.backbone.families import family_of
from lasttoken.backbone.rotary.network import RotaryDecoder
from lasttoken.classifier.adapter import adapter_config, adapter_tensors
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.lora import LoraConfig
from lasttoken.training.order import Order, batches

pytest.importorskip("peft", reason="peft is not installed: make test")
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks


def classifier_on(model_type: str) -> Classifier:
    if model_type == "gpt2":
        decoder: Any = random_gpt(n_embd=16, n_layer=3, n_head=4)
    else:
        decoder = RotaryDecoder(ROTARY_MINIATURES[model_type])
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in decoder.named_parameters():
                shift = 1.0 if parameter.dim() == 1 and "norm" in name else 0.0
                parameter.copy_(torch.empty(parameter.shape).normal_(shift, 0.15, generator=generator))
    words = tuple(family_of(decoder.config).matrices)
    return classifier_of(decoder, lora=LoraConfig(rank=3, alpha=6.0, blocks=2, matrices=words), seed=7)


def unused_id() -> int:
    """An id for padding that no text has, because transformers finds the last token of a text by it."""
    return next(i for i in range(261) if i not in random_encoded(15, seed=0).token_ids)


def peft_twin(classifier: Classifier) -> Any:
    """peft's model with the same weights, updates, final norm and head; the head has a bias, as ours."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForSequenceClassification

    decoder = classifier.decoder
    family = family_of(decoder.config)
    content = {**family.write_config(decoder.config), "pad_token_id": unused_id(), "num_labels": 2}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**content))  # type: ignore[no-untyped-call]
    _, unknown = model.load_state_dict(family.to_published(decoder.state_without_lm_head()), strict=False)
    assert not unknown
    model.score = nn.Linear(decoder.config.n_embd, 2)
    config = adapter_config(classifier)
    names = ("r", "lora_alpha", "target_modules", "layers_to_transform", "modules_to_save")
    settings: Any = {name: config[name] for name in names}
    peft = get_peft_model(
        model, PeftConfig(**settings, task_type="SEQ_CLS", fan_in_fan_out=family.model_type == "gpt2")
    )
    own = dict(peft.named_parameters())
    with torch.no_grad():
        for name, tensor in adapter_tensors(classifier).items():
            module, _, last = name.rpartition(".")
            renamed = (f"{module}.default.{last}", f"{module}.modules_to_save.default.{last}")
            (found,) = [each for each in renamed if each in own]
            own.pop(found).copy_(tensor)
    assert not [name for name, parameter in own.items() if parameter.requires_grad], (
        "peft trains what the adapter holds"
    )
    return peft.train()


def peft_losses(peft: Any, n_epochs: int, batch_size: int, seed: int) -> list[float]:
    """The losses of AdamW's steps over the texts of `losses_of`, padded on the right."""
    encoded, order, losses = random_encoded(15, seed=0), Order(seed), []
    truth = torch.from_numpy(labels_of(encoded))
    texts = [torch.from_numpy(ids) for ids in np.split(encoded.token_ids.astype(np.int64), encoded.offsets[1:-1])]
    trained = [parameter for parameter in peft.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, RATE, weight_decay=0.1, foreach=False)
    for _ in range(n_epochs):
        for rows in batches(order.shuffled(len(texts)), batch_size):
            loss = F.cross_entropy(logits_of(peft, [texts[row] for row in rows]), truth[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
    return losses


def logits_of(peft: Any, texts: list[Tensor]) -> Tensor:
    pad = peft.config.pad_token_id
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=pad)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    return peft(input_ids=ids, attention_mask=mask).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen3", "gemma3_text"])
def test_losses_equal_those_of_peft_at_every_step(model_type: str) -> None:
    classifier = classifier_on(model_type)
    peft, settings = peft_twin(classifier), settings_of(epochs=3)
    theirs = peft_losses(peft, 3, settings.n_in_batch, settings.seed)
    ours = losses_of(classifier, settings)
    assert len(ours) == 12
    assert max(theirs) - min(theirs) > 1e-2, "the training must move"
    assert ours == pytest.approx(theirs, rel=0, abs=1e-5)
    n_theirs = sum(parameter.numel() for parameter in peft.parameters() if parameter.requires_grad)
    assert classifier.n_trained() == n_theirs
