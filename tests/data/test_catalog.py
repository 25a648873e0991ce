"""The catalog of data sets agrees with the published files; a wrong name gets near ones."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.core.errors import DataError
from lasttoken.data.catalog import DATASETS, find_dataset


def test_sms_entry_is_the_published_file(sms_file: Path) -> None:
    entry = find_dataset("sms-spam")
    content = sms_file.read_bytes()
    assert sms_file.name == entry.member
    assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.member_bytes, entry.sha256)


def test_every_entry_can_be_fetched_and_checked() -> None:
    for name, entry in DATASETS.items():
        assert find_dataset(name).name == name
        assert entry.url.startswith("https://")
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert entry.member_bytes > 0
    assert not set(BACKBONES) & set(DATASETS), "`lasttoken fetch NAME` takes either"


def test_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no data set 'sms_spam'; did you mean 'sms-spam'"):
        find_dataset("sms_spam")


def test_importing_loads_no_heavy_module() -> None:
    heavy = "{'torch', 'numpy', 'requests', 'huggingface_hub'}"
    modules = "lasttoken.backbone.catalog, lasttoken.data.datasets, lasttoken.backbone.hub"
    script = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
