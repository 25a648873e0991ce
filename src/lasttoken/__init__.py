"""lasttoken: turn a pretrained GPT into a text classifier you can trust, in about a minute on a laptop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lasttoken.classifier.predict import Prediction
    from lasttoken.core.errors import LastTokenError
    from lasttoken.estimator import TextClassifier

__all__ = ["LastTokenError", "Prediction", "TextClassifier"]

_HOMES = {"LastTokenError": "core.errors", "Prediction": "classifier.predict", "TextClassifier": "estimator"}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: `import lasttoken` alone loads no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
