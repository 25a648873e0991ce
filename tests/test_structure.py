"""The house stays small: limits on packages, layers, functions, signatures, and on the files that one text passes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "structure.py"
WIDE = {"sklearn.__init__"}  # scikit-learn reads an estimator's parameters from the signature of its constructor


@pytest.fixture(scope="module")
def structure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("structure", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["structure"] = module
    spec.loader.exec_module(module)
    return module


def test_packages_and_layers(structure: ModuleType) -> None:
    assert len(structure.top_level_names()) <= 15
    assert len(structure.layers()) <= 9


def test_functions_are_short(structure: ModuleType) -> None:
    long = {function.name: function.n_lines for function in structure.functions(cli=True) if function.n_lines > 50}
    assert not long


def test_signatures_are_narrow(structure: ModuleType) -> None:
    wide = {f.name: f.n_parameters for f in structure.functions(cli=False) if f.n_parameters > 12}
    assert set(wide) <= WIDE, wide


def test_one_text_passes_few_files(structure: ModuleType) -> None:
    """Six of them are the network's own (GPT-2's two, linear, half, onednn, packing); more would need a reason."""
    assert len(structure.files_of_one_prediction()) <= 16
