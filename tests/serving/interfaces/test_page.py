"""The pages: what the server gives, and what the page's script does with CSV files (in node)."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.resources import files
from shutil import which
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lasttoken.serving.interfaces.page import ROUTES, content_of

needs_node = pytest.mark.skipif(which("node") is None, reason="needs node, to run the page's script")


@pytest.mark.parametrize("path", [route.path for route in ROUTES])
def test_a_page_is_given_with_its_type_and_loads_nothing_from_other_hosts(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/")
    assert not re.search(r"(src|href)=\"(https?:)?//", answer.text)


def test_every_file_of_the_pages_is_given() -> None:
    names = {entry.name for entry in (files("lasttoken.serving") / "page").iterdir()}
    given = {route.path.strip("/") for route in ROUTES} - {"", "docs"} | {"index.html", "docs.html"}
    assert names == given
    assert all(content_of(name) for name in names)


# The page's CSV ------------------------------------------------------------------------------------------------------

CELLS = {
    "=1+1": "'=1+1",
    "+1": "'+1",
    "-1": "'-1",
    "@SUM(A1)": "'@SUM(A1)",
    "\tx": "'\tx",
    "\r=x": '"\'\r=x"',
    '=HYPERLINK("http://evil.example","a")': '"\'=HYPERLINK(""http://evil.example"",""a"")"',
    "a=1": "a=1",
    " =1": " =1",
    "": "",
    "a,b": '"a,b"',
    'say "x"': '"say ""x"""',
}


STUBS = """
    const any = new Proxy(function () {}, { get: (_, name) => (name === Symbol.toPrimitive ? () => "" : any),
                                            apply: () => any, set: () => true });
    globalThis.document = any; globalThis.sessionStorage = any; globalThis.fetch = () => Promise.reject();
"""


def evaluate(expression: str) -> Any:
    """The value of a JavaScript expression in the page's script."""
    script = content_of("app.js").decode("utf-8")
    run = f"(async () => {{ process.stdout.write(JSON.stringify(await {expression})); process.exit(0); }})();"
    done = subprocess.run(["node", "-"], input=STUBS + script + run, capture_output=True, text=True, timeout=60)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_cells_that_a_spreadsheet_would_run_become_text() -> None:
    assert evaluate(f"{json.dumps(list(CELLS))}.map(field)") == list(CELLS.values())


@needs_node
def test_the_text_columns_are_those_of_the_training() -> None:
    header = ["title", "Abstract", "text"]
    trained = [["abstract"], ["title", "abstract"], ["other"], []]
    columns = evaluate(f"{json.dumps(trained)}.map((names) => textColumns({json.dumps(header)}, names))")
    assert columns == [[1], [0, 1], [2], [2]]
    assert evaluate('textOf(["a", " ", "b"], [0, 1, 2])') == "a\n\nb"


@needs_node
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_are_read_as_spreadsheets_write_them(codec: str, mark: str) -> None:
    content = f'text{mark}label\r\n"caf\u00e9, 1{mark}2"{mark}x\r\n'.encode(codec)
    assert evaluate(f"read(new Blob([new Uint8Array({list(content)})])).then(parse)") == [
        ["text", "label"],
        [f"caf\u00e9, 1{mark}2", "x"],
    ]


@needs_node
def test_other_encodings_are_rejected() -> None:
    content = list("caf\u00e9".encode("cp1252"))
    assert "UTF-8" in evaluate(f"read(new Blob([new Uint8Array({content})])).catch((error) => error.message)")
