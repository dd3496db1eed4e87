"""Pages for people: plain HTML, no script, nothing loaded from anywhere; a field for each question, with its label and its error.

Rule that holds here: whatever stands on a page was escaped; the policy lets nothing run, load, or frame it. Follows the patterns of
https://design-system.service.gov.uk/components/error-summary/ and WCAG 2.2: what is wrong is said at the top with links, again at the
field, and by `aria-invalid` and `aria-describedby`; nothing is said by colour alone.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from msgspec import Struct

from contracts.forms import Question, Questions

_STYLE: Final = """
:root{color-scheme:light dark;--line:#767676;--wrong:#b00020;--mark:#0b57d0}
@media (prefers-color-scheme:dark){:root{--line:#8e8e8e;--wrong:#ff8a80;--mark:#8ab4f8}}
*{box-sizing:border-box}
body{font:1.0625rem/1.5 system-ui,sans-serif;max-width:40rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.75rem;line-height:1.2}
.field,fieldset{margin:1.5rem 0}
fieldset{border:1px solid var(--line);border-radius:.25rem}
label,legend{font-weight:600;display:block}
.hint{margin:.25rem 0}
.error{color:var(--wrong);font-weight:600;margin:.25rem 0}
.bad{border-left:.25rem solid var(--wrong);padding-left:.75rem}
input,select,textarea,button{font:inherit;padding:.5rem;border:1px solid var(--line);border-radius:.25rem;width:100%}
input[type=checkbox],input[type=radio]{width:1.5rem;height:1.5rem;vertical-align:middle;margin-right:.5rem}
.tick label{display:inline;font-weight:400}
fieldset label{font-weight:400;margin:.5rem 0}
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
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'; require-trusted-types-for 'script'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "",
}
CONTENT_TYPE: Final = "text/html; charset=utf-8"
_TYPES: Final = {"email": "email", "uri": "url", "date": "date"}


class Filled(Struct, frozen=True, kw_only=True):
    """What somebody has put in so far, and what is wrong with it."""

    values: Mapping[str, str] = {}
    errors: Mapping[str, str] = {}
    notices: Sequence[str] = ()
    """What is wrong with none of the fields."""


UNTOUCHED: Final = Filled()


def page(title: str, *parts: str, lang: str = "en", filled: Filled = UNTOUCHED) -> bytes:
    """A whole page; `parts` are HTML. Whoever cannot see it hears its title first, and there that something is wrong."""
    head = f"Error: {title}" if filled.errors or filled.notices else title
    return (
        f'<!doctype html><html lang="{escape(lang)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(head)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{''.join(parts)}</main></body></html>"
    ).encode()


def paragraph(text: str, *, kind: str = "text", role: str = "") -> str:
    said = f' role="{role}"' if role else ""
    return f'<p class="{kind}"{said}>{escape(text)}</p>' if text else ""


def summary(questions: Questions, filled: Filled, ours: Mapping[str, str] = {}) -> str:
    """All that is wrong, told at once, with a way to each field. `ours`: fields beside the form's, with their titles."""
    if not filled.errors and not filled.notices:
        return ""
    lines = [f"<li>{escape(notice)}</li>" for notice in filled.notices]
    for name, asked in questions.properties.items():
        if name in filled.errors:
            told = f"{asked.title or name}: {filled.errors[name]}"
            lines.append(f'<li><a href="#f-{escape(name)}">{escape(told)}</a></li>')
    for name, title in ours.items():
        if name in filled.errors:
            lines.append(f'<li><a href="#{name}">{escape(title)}: {escape(filled.errors[name])}</a></li>')
    return (
        '<div class="summary" role="alert" tabindex="-1"><h2>Please look at this again</h2>'
        f"<ul>{''.join(lines)}</ul></div>"
    )


def fields(questions: Questions, filled: Filled, *, may_deny: bool = False) -> str:
    """A field for each question, filled in. `may_deny`: whether a box that is needed may stay unticked."""
    return "".join(
        _field(
            name,
            asked,
            filled,
            is_needed=name in questions.required,
            is_open=may_deny and asked.type == "boolean",
        )
        for name, asked in questions.properties.items()
    )


def text_line(name: str, title: str, hint: str, filled: Filled, most: int) -> str:
    """A field of ours that asks who somebody is."""
    error = filled.errors.get(name, "")
    wrong = f'<p class="error" id="{name}-error">Error: {escape(error)}</p>' if error else ""
    said = (
        f'aria-describedby="{name}-hint {name}-error" aria-invalid="true"'
        if error
        else f'aria-describedby="{name}-hint"'
    )
    return (
        f'<div class="field{" bad" if error else ""}"><label for="{name}">{escape(title)}</label>'
        f'<p class="hint" id="{name}-hint">{escape(hint)}</p>{wrong}'
        f'<input type="text" id="{name}" name="{name}" {said} required aria-required="true" maxlength="{most}" '
        f'value="{escape(filled.values.get(name, ""))}" autocomplete="name"></div>'
    )


def text_area(name: str, title: str, given: str, most: int) -> str:
    """A field of ours, beside those of the form."""
    return (
        f'<div class="field"><label for="{name}">{escape(title)}</label>'
        f'<textarea id="{name}" name="{name}" rows="3" maxlength="{most}">\n{escape(given)}</textarea></div>'
    )


def choice(name: str, title: str, options: Mapping[str, str], chosen: str) -> str:
    """One of a few, each to be seen."""
    made = "".join(
        f'<label><input type="radio" name="{name}" value="{value}" required{" checked" if value == chosen else ""}> '
        f"{escape(shown)}</label>"
        for value, shown in options.items()
    )
    return f"<fieldset><legend>{escape(title)}</legend>{made}</fieldset>"


def _field(name: str, asked: Question, filled: Filled, *, is_needed: bool, is_open: bool) -> str:
    error = filled.errors.get(name, "")
    key = f"f-{escape(name)}"
    label = escape(asked.title or name) + ("" if is_needed or is_open else " (optional)")
    hint = f'<p class="hint" id="{key}-hint">{escape(asked.description)}</p>' if asked.description else ""
    wrong = f'<p class="error" id="{key}-error">Error: {escape(error)}</p>' if error else ""
    attributes = _attributes(key, asked, error, is_needed=is_needed and not is_open)
    control = _control(name, asked, filled.values.get(name, ""), attributes)
    bad = " bad" if error else ""
    if asked.type == "boolean":
        return f'<div class="field tick{bad}">{hint}{wrong}{control}<label for="{key}">{label}</label></div>'
    return f'<div class="field{bad}"><label for="{key}">{label}</label>{hint}{wrong}{control}</div>'


def _attributes(key: str, asked: Question, error: str, *, is_needed: bool) -> str:
    described = [f"{key}-hint"] if asked.description else []
    described += [f"{key}-error"] if error else []
    said = f'id="{key}"'
    said += f' aria-describedby="{" ".join(described)}"' if described else ""
    said += ' aria-invalid="true"' if error else ""
    return said + (' required aria-required="true"' if is_needed else "")


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
