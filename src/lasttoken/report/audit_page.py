"""An audit as one self-contained HTML file; all text is escaped, and it has no script."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from lasttoken.audit.audit import Audit
from lasttoken.data.labels import natural_order
from lasttoken.report.page import number, percent

MAX_ROWS = 1000  # of each list; a larger page is slow to open, and --json has all rows


def render_audit(audit: Audit, title: str) -> str:
    """The page as one string of HTML; `title` names the data."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "number": number}
    source = files("lasttoken.report").joinpath("audit.html.jinja").read_text("utf-8")
    labels = natural_order(label for split in audit.splits.values() for label in split.labels)
    page = environment.from_string(source).render(
        title=title, audit=audit, labels=labels, lists=audit.lists(), max_rows=MAX_ROWS
    )
    return page.encode("utf-8", "replace").decode("utf-8")
