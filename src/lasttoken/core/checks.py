"""The check of settings: first each value by its own range and choices, then the combinations.

Each check raises SettingsError, which names the setting, its value and what is allowed.
"""

from __future__ import annotations

from lasttoken.core.config import CHOSEN, FIELDS, INFOS, Settings, flag_of
from lasttoken.core.errors import SettingsError, one_of
from lasttoken.core.lora import LORA, check_lora
from lasttoken.core.method import OF_THE_TAIL
from lasttoken.core.metric_registry import METRICS, metrics_at
from lasttoken.core.prompt import check_prompt
from lasttoken.core.setting import check_value


def check_settings(settings: Settings) -> None:
    """Reject invalid values, first those of single settings, then combinations.

    Raises:
        SettingsError: names the setting, its value and what is allowed.
    """
    for name, info in INFOS.items():
        check_value(flag_of(name), getattr(settings, name), info)
    for check in COMBINATIONS:
        check(settings)


def _check_seeds(settings: Settings) -> None:
    if settings.folds == 1:
        raise SettingsError("--folds is 1; it must be 2 or more, or 0 for none")
    if settings.seed + settings.seeds > 2**32:
        raise SettingsError(f"--seed is {settings.seed}; seed + seeds must be at most {2**32:,}, NumPy's limit")


def _check_fractions(settings: Settings) -> None:
    train, validation = settings.train_fraction, settings.validation_fraction
    if train + validation > 1 - 1e-9:
        raise SettingsError(
            f"--train-fraction {train} and --validation-fraction {validation} add up to {train + validation:g}; "
            "they must add up to less than 1, so that rows remain for the test split"
        )


def _check_metric(settings: Settings) -> None:
    kind = settings.kind
    if kind not in METRICS[settings.metric].kinds:
        valid = [metric.name for metric in metrics_at("history", kind)]
        raise SettingsError(
            f"--metric is {settings.metric}, which a {kind} task does not have; use one of {one_of(valid)}"
        )


def _check_columns(settings: Settings) -> None:
    for name in ("text", "label"):
        columns = getattr(settings, name)
        if repeated := [column for column in columns if columns.count(column) > 1]:
            raise SettingsError(f"{flag_of(name)} names column {repeated[0]!r} twice; name each column once")
    if len(settings.label) > 1 and not settings.multi_label:
        raise SettingsError(
            f"--label names the columns {one_of(settings.label)}, but a text has one label; name one column, or add "
            "--multi-label if each column holds 0 or 1 for the label in its name"
        )


def _check_multi_label(settings: Settings) -> None:
    if not settings.multi_label:
        return
    if not settings.label_separator or settings.label_separator.startswith("["):
        raise SettingsError(f"--label-separator is {settings.label_separator!r}; give a character, such as '|' or ';'")
    for name, info in INFOS.items():
        if info.single_label_only and getattr(settings, name) != FIELDS[name].default:
            raise SettingsError(f"{flag_of(name)} cannot be combined with --multi-label; leave one of them out")


def _check_blocks(settings: Settings) -> None:
    blocks = settings.train_blocks
    if blocks not in ("head", "all", LORA, CHOSEN) and not (blocks.isdecimal() and int(blocks) > 0):
        raise SettingsError(f"--train-blocks is {blocks!r}; use head, all, lora, auto, or a number of blocks such as 1")
    if settings.precision == "int8" and blocks == "all":
        raise SettingsError(
            "--precision int8 is for the frozen trunk, and --train-blocks all leaves none; train fewer blocks"
        )


def _check_lora(settings: Settings) -> None:
    check_lora(vars(settings))


def _check_depth(settings: Settings) -> None:
    depth = settings.depth
    if depth not in (None, "all", CHOSEN) and not (depth.isdecimal() and int(depth) > 0):
        raise SettingsError(f"--depth is {depth!r}; use a number of blocks such as 12, all, or auto")


def _check_method(settings: Settings) -> None:
    if settings.method != "linear":
        return
    if settings.train_blocks != "head":
        raise SettingsError(
            f"--method linear trains the head only, and --train-blocks is {settings.train_blocks}; leave one of them "
            "out, or use --method tail"
        )
    for name in OF_THE_TAIL:
        if getattr(settings, name) != FIELDS[name].default:
            raise SettingsError(
                f"{flag_of(name)} has no effect with --method linear, which solves for the head without gradient "
                "steps; leave it out, or use --method tail or auto"
            )


def _check_random_weights(settings: Settings) -> None:
    if settings.random_weights is not None and settings.answers is not None:
        raise SettingsError(
            f"--answers asks the pretrained backbone, and with --random-weights {settings.random_weights} it has not "
            "been trained; leave one of them out"
        )


def _check_head_bias(settings: Settings) -> None:
    if settings.head_bias:
        return
    if settings.method != "tail":
        raise SettingsError(
            f"--method {settings.method} fits a logistic regression, whose head has a bias; leave out --no-head-bias, "
            "or use --method tail"
        )
    if settings.start_head == "linear":
        raise SettingsError(
            "--start-head linear is a logistic regression, whose head has a bias; leave out --no-head-bias, or use "
            "--start-head drawn"
        )
    if settings.train_balance != "none":
        raise SettingsError(
            f"--balance {settings.balance} corrects probabilities by the head's bias, and with --no-head-bias there is "
            "none; leave one of them out"
        )


def _check_prompt(settings: Settings) -> None:
    check_prompt(settings.prompt, settings.read)


def _check_fields(settings: Settings) -> None:
    separator = settings.field_separator
    if separator is not None and separator not in ("tab", "\\t") and (len(separator) != 1 or separator in '\r\n"'):
        raise SettingsError(f"--separator is {separator!r}; give one character, such as ';', or tab")


COMBINATIONS = (
    _check_seeds,
    _check_fractions,
    _check_columns,
    _check_metric,
    _check_multi_label,
    _check_blocks,
    _check_lora,
    _check_depth,
    _check_method,
    _check_random_weights,
    _check_head_bias,
    _check_prompt,
    _check_fields,
)
