"""Print the size of the house: packages, layers, the longest function, the widest signature, the way of one text.

    python scripts/structure.py

tests/test_structure.py holds the same numbers under their limits.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "lasttoken"
BACKBONE = ROOT / "tests" / "fixtures" / "pocket"


class Function(NamedTuple):
    """A function or method of the source, its number of lines (decorators and docstring too) and of parameters."""

    name: str
    n_lines: int
    n_parameters: int


def top_level_names() -> list[str]:
    """The packages and modules directly under lasttoken."""
    return sorted(
        path.stem
        for path in SOURCE.iterdir()
        if (path.suffix == ".py" and path.stem not in ("__init__", "__main__")) or (path / "__init__.py").is_file()
    )


def layers() -> list[str]:
    """The layers of the import contract, top first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    return next(list(contract["layers"]) for contract in contracts if contract["type"] == "layers")


def functions(*, cli: bool) -> Iterator[Function]:
    """Every function of the source; `cli`: those of the command line too, whose parameters are flags."""
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        if not cli and module.startswith("cli."):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                parameters = [argument for argument in every if argument.arg not in ("self", "cls")]
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                yield Function(f"{module}.{node.name}", node.end_lineno - first + 1, len(parameters))


def files_of_one_prediction() -> list[str]:
    """The files of the source that run while a loaded classifier answers one text."""
    from lasttoken.backbone.pretrained import load_backbone
    from lasttoken.classifier.classifier import Classifier, ClassifierConfig
    from lasttoken.classifier.predict import Predictor
    from lasttoken.core.device import CPU

    backbone = load_backbone(str(BACKBONE))
    config = ClassifierConfig(
        labels=("ham", "spam"),
        read="last",
        causal_mask=True,
        max_length=64,
        truncate="tail",
        train_blocks="2",
        end_of_text_id=backbone.end_of_text_id,
        backbone=backbone.name,
    )
    predictor = Predictor(Classifier(backbone.decoder, config, 123), backbone.tokenizer, CPU)
    seen: set[str] = set()

    def note(frame: FrameType, _event: str, _argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(SOURCE):
            seen.add(str(path.relative_to(SOURCE)))

    sys.setprofile(note)
    try:
        predictor.predict(["You won $1000!"])
    finally:
        sys.setprofile(None)
    return sorted(seen)


def main() -> None:
    """Print each number and what it is of."""
    names = top_level_names()
    print(f"names at the top level  {len(names):4}  {', '.join(names)}")
    print(f"layers                  {len(layers()):4}  {'; '.join(layers())}")
    longest = sorted(functions(cli=True), key=lambda function: -function.n_lines)[:5]
    print(f"longest function        {longest[0].n_lines:4}  {', '.join(f'{f.name} {f.n_lines}' for f in longest)}")
    widest = sorted(functions(cli=False), key=lambda function: -function.n_parameters)[:5]
    print(
        f"widest signature        {widest[0].n_parameters:4}  {', '.join(f'{f.name} {f.n_parameters}' for f in widest)}"
    )
    way = files_of_one_prediction()
    print(f"files of one prediction {len(way):4}  {', '.join(way)}")


if __name__ == "__main__":
    main()
