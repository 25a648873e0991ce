"""What goes into the wheel and the source distribution, by the build backend's own rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from lasttoken.core.default_backbone import BUNDLED

ROOT = Path(__file__).resolve().parents[1]
MAX_DATA_BYTES = 48_000_000
BUNDLED_FILES = {f"lasttoken/bundled/{name}" for name in ("LICENSE", "NOTICE", "README.md", f"{BUNDLED}.gguf")}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_distribution_contains_the_bundled_backbone(kind: str, bundled_default: str) -> None:
    pytest.importorskip("hatchling", reason="needs hatchling, the build backend, from the extra test")
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    builder = WheelBuilder(str(ROOT)) if kind == "wheel" else SdistBuilder(str(ROOT))
    files = {file.distribution_path.removeprefix("src/"): file.path for file in builder.recurse_included_files()}
    assert files.keys() >= BUNDLED_FILES
    assert "lasttoken/demo/messages.csv" in files
    assert ("tests/fixtures/pocket/model.safetensors" in files) == (kind == "sdist")


def test_package_data_stays_small() -> None:
    code = (".py", ".pyc")
    files = [path for path in (ROOT / "src" / "lasttoken").rglob("*") if path.is_file() and path.suffix not in code]
    assert sum(path.stat().st_size for path in files) <= MAX_DATA_BYTES
