"""Every setting of a training, once: its name, default, help text, range, and what it affects.

The command line makes its flags from these fields and `run.toml` records them, so each setting is defined in one
place. `resolve.py` makes `Settings` from flags, a file and a recipe; `checks.py` rejects invalid ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from annotated_types import Interval

from lasttoken.core.columns import ColumnSpec
from lasttoken.core.default_backbone import BUNDLED, VARIABLE
from lasttoken.core.lora import ALL_LINEAR, LARGEST_ALPHA, SCALES
from lasttoken.core.method import DEFAULT_METHOD, METHODS
from lasttoken.core.metric_registry import Kind, metric_choices
from lasttoken.core.prompt import NO_PROMPT, OWN_PROMPT
from lasttoken.core.recipes import HANDLING, RECIPES, DataHandling
from lasttoken.core.setting import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    FRACTION,
    SettingInfo,
    info_of,
    setting,
)
from lasttoken.core.storage import parse_bytes
from lasttoken.core.tail_recipe import TailRecipe

BALANCES = ("none", "undersample", "oversample", "weights")
READS = ("last", "first", "mean", "last+mean", "padded-last", "padded-mean")
PADDED = ("padded-last", "padded-mean")  # poolings of texts that are padded to one length, as in chapter 6
CHOSEN = "auto"  # a value of settings that follow from validation, or from the backbone and the size of train
ENDS = ("head", "tail")
NGRAMS = ("auto", "none", "words", "characters")
DEVICES = ("auto", "cpu", "cuda", "mps")
BACKBONE_NAMES = (
    f"{BUNDLED}, smollm2-135m-q4, qwen3-0.6b, gpt2 or another name (lasttoken info lists them), a folder, a GGUF file, "
    "or a hub id"
)  # for help texts
PRECISIONS = ("auto", "float32", "bfloat16", "int8")
CHECKPOINTING = (CHOSEN, "on", "off")
RANDOM_WEIGHTS = ("gpt2", "book")
BOOK_WEIGHTS = RANDOM_WEIGHTS[1]
SCHEDULES = ("constant", "cosine")
TRACKERS = ("tensorboard", "mlflow", "wandb")
KEEPS = ("best", "last")
NOT_IGNORED = -100  # torch's default of a loss's ignore_index, and the script's
START_HEADS = ("drawn", "linear")
MAX_ROW_BYTES = 1_000_000_000  # a longer row is not text; Python's csv module ends at 2^31 - 1

# Commands besides train that take a setting.
SPLIT, CURVE, SUSPECTS = "split", "learning-curve", "suspects"
TRAINING_COMMANDS = (CURVE, SUSPECTS)
SEARCH = "search"  # takes the settings of train except these
NOT_OF_SEARCH = ("recipe", "seeds", "folds", "learning_curve", "track", "eval_every", "eval_batches")
DATA_COMMANDS = (SPLIT, CURVE, SUSPECTS)
FILE_COMMANDS = (*DATA_COMMANDS, "audit", "predict", "evaluate", "ask")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one training, immutable; `resolve` makes and checks them."""

    recipe: str = setting(
        "default",
        "Named set of settings: default, or book to reproduce chapter 6 exactly.",
        choices=tuple(RECIPES),
        commands=DATA_COMMANDS,
        single_label_only=True,
    )
    # data
    text: tuple[str, ...] = setting(
        (),
        "Name of the text column; repeat it to join several columns with a blank line.",
        commands=DATA_COMMANDS,
        changes_training=False,
    )
    label: tuple[str, ...] = setting(
        (),
        "Name of the label column; with --multi-label repeat it for columns of 0 and 1 named after the labels.",
        commands=DATA_COMMANDS,
        changes_training=False,
    )
    multi_label: bool = setting(
        False,
        "A text may have any number of labels, written with a separator or as a JSON list.",
        flag="--multi-label",
        commands=(SPLIT,),
    )
    label_separator: str = setting(
        "|", "Separator between the labels of a text, with --multi-label.", commands=(SPLIT,)
    )
    id: str | None = setting(
        None,
        "Name of a column to copy into the split files and predictions.",
        help_of={CURVE: "Name of a column that identifies rows; it is read neither as text nor as label."},
        commands=(SPLIT, CURVE),
        changes_training=False,
    )
    group: str | None = setting(
        None,
        "Name of a column; rows with the same value in it stay in the same split.",
        commands=DATA_COMMANDS,
        changes_training=False,
    )
    encoding: str = setting("utf-8", "Encoding of text files.", commands=FILE_COMMANDS, changes_training=False)
    field_separator: str | None = setting(
        None,
        "Character between the fields of a table, or tab; default: detected.",
        flag="--separator",
        commands=FILE_COMMANDS,
        changes_training=False,
    )
    no_header: bool = setting(
        False,
        "The file has no header line: its columns are named 1, 2, ...",
        flag="--no-header",
        commands=FILE_COMMANDS,
        changes_training=False,
    )
    format: str | None = setting(
        None,
        "Format of the data files; default: by the file name's suffix. txt: one text per line.",
        commands=FILE_COMMANDS,
        changes_training=False,
    )
    max_row_bytes: str = setting(
        "16MB",
        "Maximum size of a row; a longer one is an error.",
        allowed=Interval(ge=1, le=MAX_ROW_BYTES),
        unit="bytes",
        accepts_numbers=True,
        commands=FILE_COMMANDS,
        changes_training=False,
    )
    skip_unreadable: bool = setting(
        False,
        "Skip rows that cannot be read, and report how many.",
        flag="--skip-unreadable",
        commands=FILE_COMMANDS,
        changes_training=False,
    )
    strict: bool = setting(
        False,
        "Stop at the first row without a text or a label instead of skipping such rows.",
        flag="--strict",
        commands=(*DATA_COMMANDS, "evaluate", "ask"),
        changes_training=False,
    )
    min_rows: int = setting(
        1,
        "Minimum number of rows per label; rows of rarer labels are skipped.",
        allowed=AT_LEAST_1,
        commands=DATA_COMMANDS,
        changes_training=False,
    )
    validation: str | None = setting(
        None, "File to use as the validation split.", commands=(SPLIT, CURVE), changes_training=False
    )
    test: str | None = setting(None, "File to use as the test split.", commands=(SPLIT, CURVE), changes_training=False)
    balance: str = setting(
        "none",
        "How to balance uneven labels in the train split; predicted probabilities are corrected for it.",
        choices=BALANCES,
        commands=DATA_COMMANDS,
        single_label_only=True,
    )
    train_fraction: float = setting(0.7, "Fraction of rows for training.", allowed=FRACTION, commands=(SPLIT, CURVE))
    validation_fraction: float = setting(
        0.1,
        "Fraction of rows for validation, which selects the weights; what remains is the test split.",
        help_of={SUSPECTS: "Fraction of the rows for the validation split of each fold, which selects the weights."},
        allowed=FRACTION,
        commands=DATA_COMMANDS,
    )
    # the classifier
    backbone: str = setting(
        BUNDLED,
        f"Pretrained GPT: {BACKBONE_NAMES}. The environment variable {VARIABLE} sets another default.",
        commands=TRAINING_COMMANDS,
        changes_training=False,  # the fingerprint of a run contains the hash of its trunk
    )
    random_weights: str | None = setting(
        None,
        "Draw the backbone's weights from --seed; the pretrained ones are not fetched. gpt2: normal numbers, as GPT-2 "
        "began; book: as chapter 6's script draws a GPT-2.",
        choices=RANDOM_WEIGHTS,
    )
    method: str = setting(
        DEFAULT_METHOD,
        "How to train. tail: the last blocks and the head, by gradient steps; linear: only the head, as a logistic "
        "regression; auto: both, and keep the better one on validation.",
        choices=METHODS,
        commands=TRAINING_COMMANDS,
    )
    depth: str | None = setting(
        None,
        "Number of blocks of the backbone to use, from the first; all; or auto: chosen on validation. [default: all; "
        "with --method linear or auto: auto]",
        accepts_numbers=True,
        commands=TRAINING_COMMANDS,
    )
    train_blocks: str = setting(
        CHOSEN,
        "What to train: head (only the head), 1, 2, ... (the last blocks, final norm and head), all, lora (updates of "
        "low rank, final norm and head); or auto: the last 2 blocks, or 6 where train has little text.",
        accepts_numbers=True,
        commands=TRAINING_COMMANDS,
    )
    lora_rank: int | None = setting(
        None,
        "Rank of the updates of LoRA; default with --train-blocks lora: 8. Each of the settings of LoRA implies "
        "--train-blocks lora.",
        allowed=AT_LEAST_1,
        commands=TRAINING_COMMANDS,
    )
    lora_alpha: float | None = setting(
        None,
        "Alpha of LoRA: the updates are multiplied by alpha / rank; default: twice the rank.",
        allowed=Interval(gt=0, le=LARGEST_ALPHA),
        example="16",
        commands=TRAINING_COMMANDS,
    )
    lora_blocks: str = setting(
        CHOSEN,
        "Blocks with LoRA, counted from the last one; all; or auto: the last half of them.",
        accepts_numbers=True,
        commands=TRAINING_COMMANDS,
    )
    lora_matrices: str = setting(
        ALL_LINEAR,
        "Matrices with LoRA: all-linear, or some of q,k,v,o,gate,up,down; GPT-2 has qkv,o,up,down.",
        commands=TRAINING_COMMANDS,
    )
    lora_scale: str = setting(
        SCALES[0],
        "What the updates of LoRA are multiplied by: alpha/rank, or alpha as in the book's script.",
        choices=SCALES,
        commands=TRAINING_COMMANDS,
    )
    keep_adapter: bool = setting(
        False,
        "Also write the updates of LoRA as a folder, adapter, in the format of peft; the run itself holds merged "
        "weights.",
        flag="--keep-adapter",
    )
    read: str = setting(
        CHOSEN,
        "Pooling: which token's state the head reads. mean: the average of all tokens; last+mean: both; padded-last, "
        "padded-mean: of padded texts, as the book does; auto: chosen on validation for a linear head; by the backbone "
        "for a tail.",
        choices=(*READS, CHOSEN),
        alias="--pooling",
        commands=TRAINING_COMMANDS,
    )
    prompt: str = setting(
        OWN_PROMPT,
        "Prompt in which every text is read, such as '{text}\\nThis message is about'; none; or auto: the backbone's "
        "own, which lasttoken info NAME shows. Special tokens in it are special tokens.",
        commands=TRAINING_COMMANDS,
    )
    causal_mask: bool = setting(
        True, "Let every token attend to the whole text.", flag="--no-causal-mask", commands=(CURVE,)
    )
    head_bias: bool = setting(
        True,
        "Give the head a bias. transformers' classifiers have none: --no-head-bias --read last makes one that can be "
        "exported for any family that it knows.",
        flag="--head-bias/--no-head-bias",
        commands=(CURVE,),
    )
    max_length: int | None = setting(
        None,
        "Maximum length of a text in tokens; default: 512, down to 128 with many rows; with learned "
        "positions, what the backbone can read.",
        allowed=AT_LEAST_1,
        commands=TRAINING_COMMANDS,
    )
    truncate: str = setting("tail", "Which end of a longer text to cut off.", choices=ENDS, commands=TRAINING_COMMANDS)
    ngrams: str | None = setting(
        None,
        "Add the log-probabilities of an n-gram model to the classifier, with a weight that is fitted on validation: "
        "words, characters, or auto: the better one, or none if neither lowers the loss. [default: none; with --method "
        "linear or auto: auto]",
        choices=NGRAMS,
        commands=TRAINING_COMMANDS,
        changes_training=False,  # it is fitted after the training
    )
    # training
    epochs: int | None = setting(
        None,
        "Passes over the train split; default: by the backbone and the size of train.",
        allowed=AT_LEAST_1,
        commands=TRAINING_COMMANDS,
    )
    batch_size: int | None = setting(
        None,
        "Examples per batch; default: by the backbone and the size of train.",
        allowed=AT_LEAST_1,
        commands=TRAINING_COMMANDS,
    )
    accumulate: int = setting(
        1,
        "Batches per step: their gradients are added up, so that a step has as many examples as several batches, in "
        "the memory of one.",
        allowed=AT_LEAST_1,
        commands=(CURVE,),
    )
    learning_rate: float | None = setting(
        None,
        "Peak learning rate of AdamW; default: by the backbone, its width, and the size of train.",
        allowed=ABOVE_0,
        example="5e-5",
        commands=TRAINING_COMMANDS,
    )
    schedule: str = setting("cosine", "Learning-rate schedule.", choices=SCHEDULES, commands=(CURVE,))
    warmup_fraction: float = setting(
        0.1,
        "Fraction of steps for the linear warm-up of the learning rate.",
        allowed=Interval(ge=0, lt=1),
        commands=(CURVE,),
    )
    weight_decay: float = setting(
        0.1, "Weight decay of AdamW, on every trained tensor.", allowed=AT_LEAST_0, commands=(CURVE,)
    )
    clip_norm: float = setting(1.0, "Maximum gradient norm; 0: no clipping.", allowed=AT_LEAST_0, commands=(CURVE,))
    label_smoothing: float = setting(
        0.0,
        "Share of the training loss that is spread over all labels, which makes probabilities less extreme; 0: none.",
        allowed=Interval(ge=0, lt=1),
        commands=(CURVE,),
    )
    drop_last: bool = setting(
        False, "Drop the last batch of an epoch when it is incomplete.", flag="--drop-last/--no-drop-last"
    )
    eval_every: int = setting(
        0,
        "Steps between evaluations (with --eval-batches: batches); 0: evaluate at the end of each epoch.",
        allowed=AT_LEAST_0,
    )
    eval_batches: int = setting(
        0,
        "Batches of each split for an evaluation during training; 0: all of validation.",
        allowed=AT_LEAST_0,
    )
    ignore_index: int = setting(
        NOT_IGNORED,
        "Label id to leave out of the loss, an option of chapter 6's script. It changes nothing: padding has no label, "
        "and the id of a label is rejected.",
        changes_training=False,
        single_label_only=True,
    )
    start_head: str = setting(
        CHOSEN,
        "Head that the training of a tail starts from: drawn at random, or linear: the logistic regression on the "
        "pretrained features. auto: by the backbone and the size of train.",
        choices=(*START_HEADS, CHOSEN),
        commands=(CURVE,),
    )
    keep: str = setting(
        CHOSEN,
        "Which weights to keep: the best on validation, or the last; auto: by the backbone.",
        choices=(*KEEPS, CHOSEN),
        commands=(CURVE,),
    )
    metric: str = setting(
        "loss", "Validation metric that selects the best weights.", choices=metric_choices, commands=(CURVE,)
    )
    patience: int = setting(
        0,
        "Stop after this many evaluations without an improvement; 0: never.",
        allowed=AT_LEAST_0,
        commands=(CURVE,),
    )
    seed: int = setting(
        123,
        "Seed of the split, the head's initialization and the order of examples.",
        allowed=AT_LEAST_0,
        commands=DATA_COMMANDS,
    )
    # judging
    calibrate: bool = setting(
        True,
        "Calibrate probabilities with one temperature, fitted on validation.",
        flag="--calibrate/--no-calibrate",
        changes_training=False,
    )
    threshold: str | None = setting(
        None,
        "Decision threshold: spam=0.9, auto (two labels; fitted on validation), spam@precision=0.99 or "
        "spam@recall=0.9 (fitted on validation), or 0.9 to abstain below it. With --multi-label the default is auto, "
        "and 0.5 predicts every label with at least that probability.",
        accepts_numbers=True,
        changes_training=False,
    )
    cost: str | None = setting(
        None,
        "Costs of errors, such as spam:ham=5 for spam predicted as ham; other errors cost 1. The label with the least "
        "expected cost is predicted.",
        changes_training=False,
        single_label_only=True,
    )
    seeds: int = setting(
        1,
        "Number of trainings with different seeds, on the same features; the run keeps the first.",
        allowed=AT_LEAST_1,
        changes_training=False,
    )
    folds: int = setting(
        0,
        "Folds of a cross-validation over all rows, in addition to the run; 0: none.",
        help_of={SUSPECTS: "Number of folds; each fold is judged by a classifier trained on the others. [default: 5]"},
        allowed=AT_LEAST_0,
        commands=(SUSPECTS,),
        changes_training=False,
        single_label_only=True,
    )
    learning_curve: bool = setting(
        False,
        "Also train on 5 smaller train splits, to see whether more labels would help.",
        flag="--learning-curve",
        changes_training=False,
        single_label_only=True,
    )
    slice_by: str | None = setting(
        None, "Name of a column; report errors for each of its values.", changes_training=False
    )
    answers: str | None = setting(
        None,
        "Also ask the untrained backbone, as a baseline: the answer for each label, such as spam=yes,ham=no.",
        changes_training=False,
        single_label_only=True,
    )
    track: str | None = setting(None, "Also log to an experiment tracker.", choices=TRACKERS, changes_training=False)
    # the machine
    device: str = setting(
        "auto", "Device to compute on.", choices=DEVICES, commands=TRAINING_COMMANDS, changes_training=False
    )
    precision: str = setting(
        "auto",
        "Number format; auto: bfloat16 autocast on CUDA, float32 elsewhere. bfloat16: faster only on processors with "
        "AMX or AVX512_BF16. int8: the trunk in 8 bits, on CPUs; faster only on processors with VNNI.",
        choices=PRECISIONS,
        commands=TRAINING_COMMANDS,
    )
    checkpoint_activations: str = setting(
        CHOSEN,
        "Compute the trained blocks again in the backward pass in place of keeping what they computed: less memory, "
        "same losses, slower. auto: where the free memory would not do.",
        choices=CHECKPOINTING,
        commands=TRAINING_COMMANDS,
        changes_training=False,
    )
    shard_weights: str = setting(
        CHOSEN,
        "With several processes (--workers, torchrun) and --train-blocks all: each keeps a part of the weights and of "
        "the optimizer, and not all of them: less memory, slower. auto: on GPUs where they would not fit.",
        choices=CHECKPOINTING,
        changes_training=False,
    )
    cache_limit: str | None = setting(
        None,
        "Maximum size of the feature cache, such as 20GB; default: a quarter of the free disk space.",
        unit="bytes",
        accepts_numbers=True,
        commands=TRAINING_COMMANDS,
        changes_training=False,
    )
    no_cache: bool = setting(
        False,
        "Keep the features of this run in memory only, not on disk.",
        commands=TRAINING_COMMANDS,
        changes_training=False,
    )

    @property
    def handling(self) -> DataHandling:
        """How the recipe handles data."""
        return HANDLING[self.recipe]

    @property
    def train_balance(self) -> str:
        """`balance` of the train split; "none" where all rows are balanced before they are split."""
        return "none" if self.handling.chapter_split else self.balance

    @property
    def n_blocks(self) -> int | None:
        """The number of blocks that are used; None: all. `depth` must not be auto."""
        assert self.depth != CHOSEN
        return None if self.depth in (None, "all") else int(self.depth)

    @property
    def template(self) -> str | None:
        """The prompt around every text; None: there is none. See `with_prompt_of` for the backbone's own."""
        return None if self.prompt in (OWN_PROMPT, NO_PROMPT) else self.prompt

    @property
    def leaves_choices(self) -> bool:
        """Whether method, depth or the pooling of a linear head are to be chosen on validation."""
        return CHOSEN in (self.method, self.depth) or (self.method == "linear" and self.read == CHOSEN)

    @property
    def n_epochs(self) -> int:
        """`epochs`, once they are known."""
        assert self.epochs is not None
        return self.epochs

    @property
    def n_in_batch(self) -> int:
        """`batch_size`, once it is known."""
        assert self.batch_size is not None
        return self.batch_size

    @property
    def adds_ngrams(self) -> bool:
        """Whether an n-gram model may become part of the classifier."""
        return self.ngrams not in (None, "none")

    @property
    def columns(self) -> ColumnSpec:
        """The columns that the settings name."""
        return ColumnSpec(self.text, self.label, self.id, self.group, self.slice_by)

    @property
    def kind(self) -> Kind:
        """The kind of task, as the registry of metrics names it."""
        return "multi-label" if self.multi_label else "single-label"

    @property
    def separator(self) -> str | None:
        """The separator between the labels of a text; None where every text has one label."""
        return separator_of(self.multi_label, self.label_separator)

    @property
    def cache_limit_bytes(self) -> int | None:
        """`cache_limit` in bytes; None: the default."""
        return None if self.cache_limit is None else parse_bytes(self.cache_limit)

    @property
    def row_limit_bytes(self) -> int:
        """`max_row_bytes` in bytes."""
        return parse_bytes(self.max_row_bytes)

    def completed(self, recipe: TailRecipe) -> Settings:
        """The settings with the recipe's values where none were set."""
        if self.method == "linear":
            return self
        values = asdict(recipe if self.head_bias else replace(recipe, start_head="drawn")).items()
        return replace(self, **{name: value for name, value in values if getattr(self, name) in (None, CHOSEN)})

    def with_prompt_of(self, own: str | None) -> Settings:
        """The settings with the prompt that is used: the one that was set, or `own`, the backbone's.

        Poolings of padded texts read no prompt.
        """
        if self.prompt != OWN_PROMPT or own is None or self.read in PADDED:
            return self
        return replace(self, prompt=own)

    def to_toml(self) -> dict[str, Any]:
        """The settings as `run.toml` holds them, without those that are None."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if value is not None}

    def that_change_training(self) -> dict[str, Any]:
        """The settings that a resumed run must share with the run it continues, as `to_toml` holds them."""
        return {name: value for name, value in self.to_toml().items() if INFOS[name].changes_training}


FIELDS = {item.name: item for item in fields(Settings)}
INFOS: dict[str, SettingInfo] = {name: info_of(item) for name, item in FIELDS.items()}


def flag_of(name: str) -> str:
    """The flag of a setting.

    >>> flag_of("batch_size"), flag_of("causal_mask"), flag_of("drop_last")
    ('--batch-size', '--no-causal-mask', '--drop-last')
    """
    special = INFOS[name].flag if name in INFOS else None
    return special.partition("/")[0] if special else "--" + name.replace("_", "-")


def switch_of(name: str, value: bool) -> str:
    """The flag that gives a yes-or-no setting this value, which is not its default.

    >>> switch_of("drop_last", True), switch_of("calibrate", False), switch_of("causal_mask", False)
    ('--drop-last', '--no-calibrate', '--no-causal-mask')
    """
    on, _, off = (INFOS[name].flag or flag_of(name)).partition("/")
    return on if value or not off else off


def settings_of(command: str) -> list[str]:
    """The names of the settings that a command takes as flags.

    >>> settings_of("audit")
    ['encoding', 'field_separator', 'no_header', 'format', 'max_row_bytes', 'skip_unreadable']
    """
    if command == SEARCH:
        return [name for name in INFOS if name not in NOT_OF_SEARCH]
    return [name for name, info in INFOS.items() if command == "train" or command in info.commands]


def separator_of(multi_label: bool, label_separator: str) -> str | None:
    """The separator between the labels of a text; None where every text has one label."""
    return label_separator if multi_label else None
