"""An audit as one HTML file that needs nothing outside itself; every text in it is escaped, no script runs."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from lasttoken.audit.audit import Audit
from lasttoken.data.labels import natural_order
from lasttoken.report.page import number, percent

MOST_ROWS = 1000  # of each list; a page of more is slow to open, and --json has them all


def render_audit(found: Audit, title: str) -> str:
    """The page as one string of HTML; `title` names the data."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "number": number}
    source = files("lasttoken.report").joinpath("audit.html.jinja").read_text("utf-8")
    labels = natural_order(label for split in found.splits.values() for label in split.labels)
    page = environment.from_string(source).render(
        title=title, audit=found, labels=labels, lists=found.lists(), most_rows=MOST_ROWS
    )
    return page.encode("utf-8", "replace").decode("utf-8")
