"""Architectures of Hugging Face that cannot be loaded, by model_type, so that an error can say what they are."""

from __future__ import annotations

HYBRID = "a hybrid of attention and recurrent or convolutional blocks"
EXPERTS = "a mixture of experts"
ENCODER = "an encoder, which does not read from left to right"
VISION = "a model of images and text"
SEQ2SEQ = "an encoder with a decoder"
SOFT_CAP = "a decoder with a soft-cap of attention scores"

KINDS = {
    HYBRID: (
        "bamba falcon_h1 falcon_mamba granitemoehybrid jamba kimi_linear lfm2 lfm2_moe lfm3 mamba mamba2 minimax "
        "nemotron_h olmo_hybrid qwen3_5 qwen3_5_text qwen3_next recurrent_gemma rwkv xlstm zamba zamba2"
    ),
    EXPERTS: (
        "afmoe dbrx deepseek_v2 deepseek_v3 ernie4_5_moe flex_olmo glm4_moe gpt_oss granitemoe granitemoeshared jetmoe "
        "llama4_text mixtral olmoe phimoe qwen2_moe qwen3_5_moe qwen3_moe"
    ),
    ENCODER: (
        "albert bert camembert deberta deberta-v2 distilbert electra ernie esm eurobert modernbert mpnet nomic_bert "
        "rembert roberta roformer xlm xlm-roberta xlm-roberta-xl xlnet"
    ),
    VISION: (
        "gemma3 gemma3n gemma4 idefics3 internvl llama4 llava llava_next mistral3 mllama paligemma pixtral qwen2_5_vl "
        "qwen2_vl qwen3_vl smolvlm"
    ),
    SEQ2SEQ: "bart blenderbot encoder-decoder led m2m_100 marian mbart mt5 pegasus t5 t5gemma umt5 whisper",
    SOFT_CAP: "gemma2",
}

INSTEAD = {  # the nearest architecture that loads
    "gemma2": "gemma3_text",
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3_text",
    "gemma4": "gemma3_text",
    "llama4": "llama",
    "llama4_text": "llama",
    "mistral3": "mistral",
    "mixtral": "mistral",
    "mllama": "llama",
    "modernbert": "modernbert-decoder",
    "qwen2_5_vl": "qwen2",
    "qwen2_moe": "qwen2",
    "qwen2_vl": "qwen2",
    "qwen3_5": "qwen3",
    "qwen3_5_moe": "qwen3",
    "qwen3_5_text": "qwen3",
    "qwen3_moe": "qwen3",
    "qwen3_next": "qwen3",
    "qwen3_vl": "qwen3",
}


def describe_unsupported(model_type: object) -> str:
    """What is known of an architecture that cannot be loaded, to follow its name in a message.

    >>> describe_unsupported("gemma3")
    ", a model of images and text (the nearest that loads is 'gemma3_text')"
    >>> describe_unsupported("unheard-of")
    ''
    """
    kind = next((kind for kind, names in KINDS.items() if model_type in names.split()), None)
    if kind is None:
        return ""
    nearest = INSTEAD.get(str(model_type))
    return f", {kind}" + (f" (the nearest that loads is {nearest!r})" if nearest else "")
