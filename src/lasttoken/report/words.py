"""An explanation as HTML: the text, each word with a background as strong as its effect, for or against the label."""

from __future__ import annotations

from markupsafe import Markup, escape

from lasttoken.classifier.explain import Explanation, Word

FOR, AGAINST = "43, 108, 210", "214, 110, 20"  # blue and orange, which color-blind readers can distinguish
STRONGEST = 0.55  # opacity; the text stays readable on white and on black
FAINT = 0.02  # fraction of the strongest word; below it no background

PAGE = Markup(
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="color-scheme" content="light dark">\n'
    "<title>lasttoken explain</title>\n"
    "<style>body {{ max-width: 50em; margin: 2em auto; padding: 0 1em; font: 1em/1.7 sans-serif; }}</style>\n"
    "{}\n</html>\n"
)


def as_html(explanation: Explanation) -> str:
    """A fragment: the label and method, and the text with its words marked. All text is escaped."""
    strongest = max((abs(word.value) for word in explanation.words), default=0.0)
    marked = Markup("").join(_mark(word, strongest) for word in explanation.words)
    head = Markup(
        "<p>{}, probability {:.3f}; method {}; the words' scores differ by {:.2g} from the total of {:+.2f} nats</p>"
    ).format(
        explanation.label,
        explanation.score,
        explanation.method,
        explanation.gap,
        explanation.total - explanation.base,
    )
    return str(head + Markup('\n<p style="white-space: pre-wrap; overflow-wrap: anywhere">') + marked + Markup("</p>"))


def as_page(explanation: Explanation) -> str:
    """`as_html` as a complete file."""
    return str(PAGE.format(Markup(as_html(explanation))))


def _mark(word: Word, strongest: float) -> Markup:
    if not word.read:
        return Markup('<span style="opacity: 0.5" title="not read">{}</span>').format(word.text)
    share = abs(word.value) / strongest if strongest else 0.0
    if share < FAINT:
        return escape(word.text)
    line = "" if word.value > 0 else "; text-decoration: underline dotted"
    style = f"color: inherit; background: rgba({FOR if word.value > 0 else AGAINST}, {STRONGEST * share:.2f}){line}"
    marked = word.text.rstrip()
    return Markup('<mark style="{}" title="{:+.2f}">{}</mark>{}').format(
        style, word.value, marked, word.text[len(marked) :]
    )
