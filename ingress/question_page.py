"""The page of a form, for everybody: labels, errors beside their fields, no script, nothing loaded from anywhere.

Follows the patterns of https://design-system.service.gov.uk/components/error-summary/ and WCAG 2.2: what is wrong is said at the top
with links, again at the field, and by `aria-invalid` and `aria-describedby`; nothing is said by colour alone.
"""

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Final

from msgspec import Struct

from contracts.forms import Question
from contracts.triggers import Form

STAMP: Final = "_page"
TRAP: Final = "_website"
"""A field that people do not see. Whoever fills it in is a program that fills in everything."""
_STYLE: Final = """
:root{color-scheme:light dark;--line:#767676;--wrong:#b00020;--mark:#0b57d0}
@media (prefers-color-scheme:dark){:root{--line:#8e8e8e;--wrong:#ff8a80;--mark:#8ab4f8}}
*{box-sizing:border-box}
body{font:1.0625rem/1.5 system-ui,sans-serif;max-width:40rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.75rem;line-height:1.2}
.field{margin:1.5rem 0}
label,legend{font-weight:600;display:block}
.hint{margin:.25rem 0}
.error{color:var(--wrong);font-weight:600;margin:.25rem 0}
.bad{border-left:.25rem solid var(--wrong);padding-left:.75rem}
input,select,textarea,button{font:inherit;padding:.5rem;border:1px solid var(--line);border-radius:.25rem;width:100%}
input[type=checkbox]{width:1.5rem;height:1.5rem;vertical-align:middle;margin-right:.5rem}
.tick label{display:inline;font-weight:400}
button{background:var(--mark);color:Canvas;border-color:transparent;font-weight:600;width:auto;padding:.75rem 1.5rem;min-height:44px}
:focus-visible{outline:3px solid var(--mark);outline-offset:2px}
.summary{border:.25rem solid var(--wrong);padding:1rem;margin:1.5rem 0}
.summary h2{margin-top:0;font-size:1.25rem}
.summary a{color:var(--wrong)}
.note{border:1px solid var(--line);padding:.75rem}
.trap{position:absolute;left:-100vw;width:1px;height:1px;overflow:hidden}
p,h1,label,.hint{overflow-wrap:anywhere}
.text{white-space:pre-line}
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "",
    "x-robots-tag": "noindex",
}
CONTENT_TYPE: Final = "text/html; charset=utf-8"
_TYPES: Final = {"email": "email", "uri": "url", "date": "date"}


class Filled(Struct, frozen=True, kw_only=True):
    """What somebody has put in so far, and what is wrong with it."""

    values: Mapping[str, str] = {}
    errors: Mapping[str, str] = {}
    notice: str = ""
    """What is wrong with none of the fields."""


def page(form: Form, stamp: str, filled: Filled, *, test: bool) -> bytes:
    """The form, to be filled in."""
    fields = "".join(_field(form, name, asked, filled) for name, asked in form.questions.properties.items())
    body = (
        f"<h1>{escape(form.title)}</h1>{_paragraph(form.description)}{_test(test)}{_summary(form, filled)}"
        f'<form method="post" novalidate autocomplete="on">'
        f'<input type="hidden" name="{STAMP}" value="{escape(stamp)}">'
        f'<div class="trap" aria-hidden="true"><label for="{TRAP}">Leave this empty</label>'
        f'<input id="{TRAP}" name="{TRAP}" tabindex="-1" autocomplete="off"></div>'
        f'{fields}<button type="submit">{escape(form.button)}</button></form>'
    )
    return _whole(form, _title(form, filled), body)


def thanks(form: Form, *, test: bool) -> bytes:
    """It has arrived."""
    return _whole(
        form, form.title, f"<h1>{escape(form.title)}</h1>{_test(test)}{_paragraph(form.thanks, 'status')}"
    )


def sorry(form: Form, what: str) -> bytes:
    """It has not arrived, and that is nobody's fault who reads this."""
    return _whole(form, form.title, f"<h1>{escape(form.title)}</h1>{_paragraph(what, 'alert')}")


def _whole(form: Form, title: str, body: str) -> bytes:
    return (
        f'<!doctype html><html lang="{escape(form.lang)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    ).encode()


def _title(form: Form, filled: Filled) -> str:
    """Who cannot see the page hears the title first."""
    return f"Error: {form.title}" if filled.errors or filled.notice else form.title


def _paragraph(text: str, role: str = "") -> str:
    said = f' role="{role}"' if role else ""
    return f'<p class="text"{said}>{escape(text)}</p>' if text else ""


def _test(test: bool) -> str:  # noqa: FBT001  # One flag, passed on.
    return (
        '<p class="note">This is a test. What you send is kept as a sample and starts nothing.</p>'
        if test
        else ""
    )


def _summary(form: Form, filled: Filled) -> str:
    if not filled.errors and not filled.notice:
        return ""
    lines = [f"<li>{escape(filled.notice)}</li>"] if filled.notice else []
    for name, asked in form.questions.properties.items():
        if name in filled.errors:
            told = f"{_label(name, asked)}: {filled.errors[name]}"
            lines.append(f'<li><a href="#f-{escape(name)}">{escape(told)}</a></li>')
    return (
        '<div class="summary" role="alert" tabindex="-1"><h2>Please look at this again</h2>'
        f"<ul>{''.join(lines)}</ul></div>"
    )


def _label(name: str, asked: Question) -> str:
    return asked.title or name


def _field(form: Form, name: str, asked: Question, filled: Filled) -> str:
    error = filled.errors.get(name, "")
    required = name in form.questions.required
    key = f"f-{escape(name)}"
    label = escape(_label(name, asked)) + ("" if required else " (optional)")
    hint = f'<p class="hint" id="{key}-hint">{escape(asked.description)}</p>' if asked.description else ""
    wrong = f'<p class="error" id="{key}-error">Error: {escape(error)}</p>' if error else ""
    control = _control(
        name, asked, filled.values.get(name, ""), _attributes(key, asked, error, required=required)
    )
    if asked.type == "boolean":
        inner = f'{hint}{wrong}{control}<label for="{key}">{label}</label>'
        return f'<div class="field tick{" bad" if error else ""}">{inner}</div>'
    return f'<div class="field{" bad" if error else ""}"><label for="{key}">{label}</label>{hint}{wrong}{control}</div>'


def _attributes(key: str, asked: Question, error: str, *, required: bool) -> str:
    described = [f"{key}-hint"] if asked.description else []
    described += [f"{key}-error"] if error else []
    said = f'id="{key}"'
    said += f' aria-describedby="{" ".join(described)}"' if described else ""
    said += ' aria-invalid="true"' if error else ""
    return said + (' required aria-required="true"' if required else "")


def _control(name: str, asked: Question, value: str, attributes: str) -> str:
    said = f'name="{escape(name)}" {attributes}'
    if asked.type == "boolean":
        return f'<input type="checkbox" value="yes" {said}{" checked" if value else ""}>'
    if asked.enum:
        options = "".join(
            f'<option value="{escape(each)}"{" selected" if each == value else ""}>{escape(each)}</option>'
            for each in asked.enum
        )
        return f'<select {said}><option value=""></option>{options}</select>'
    if asked.format == "multiline":
        return f'<textarea {said} rows="6" maxlength="{asked.max_length}">\n{escape(value)}</textarea>'
    if asked.type in ("integer", "number"):
        mode = "numeric" if asked.type == "integer" else "decimal"
        return f'<input type="text" inputmode="{mode}" {said} value="{escape(value)}">'
    kind = _TYPES.get(asked.format, "text")
    helped = ' autocomplete="email"' if asked.format == "email" else ""
    return f'<input type="{kind}" {said} maxlength="{asked.max_length}" value="{escape(value)}"{helped}>'
