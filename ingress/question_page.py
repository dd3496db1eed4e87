"""The pages of a form that starts runs: to be filled in, arrived, not arrived."""

from html import escape
from typing import Final

from contracts.triggers import Form
from ingress.pages import Filled, fields, paragraph, summary
from ingress.pages import page as whole

STAMP: Final = "_page"
TRAP: Final = "_website"
"""A field that people do not see. Whoever fills it in is a program that fills in everything."""


def page(form: Form, stamp: str, filled: Filled, *, test: bool) -> bytes:
    """The form, to be filled in."""
    return whole(
        form.title,
        paragraph(form.description),
        _said_of_a_test(test=test),
        summary(form.questions, filled),
        '<form method="post" novalidate autocomplete="on">'
        f'<input type="hidden" name="{STAMP}" value="{escape(stamp)}">'
        f'<div class="trap" aria-hidden="true"><label for="{TRAP}">Leave this empty</label>'
        f'<input id="{TRAP}" name="{TRAP}" tabindex="-1" autocomplete="off"></div>',
        fields(form.questions, filled),
        f'<button type="submit">{escape(form.button)}</button></form>',
        lang=form.lang,
        filled=filled,
    )


def thanks(form: Form, *, test: bool) -> bytes:
    """It has arrived."""
    return whole(
        form.title, _said_of_a_test(test=test), paragraph(form.thanks, role="status"), lang=form.lang
    )


def sorry(form: Form, what: str) -> bytes:
    """It has not arrived, and that is nobody's fault who reads this."""
    return whole(form.title, paragraph(what, role="alert"), lang=form.lang)


def _said_of_a_test(*, test: bool) -> str:
    said = "This is a test. What you send is kept as a sample and starts nothing."
    return paragraph(said, kind="note") if test else ""
