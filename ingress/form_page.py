"""A page with a form for people: plain HTML, no script, nothing from elsewhere; every field has its label and its error.

Rule that holds here: whatever stands on a page was escaped; the policy lets nothing run, load, or frame it.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from chassis.edge.problems import Complaint
from chassis.forms import Form, fields_of

_STYLE: Final = """\
:root { color-scheme: light dark; --line: #8888; --bad: #b3261e; }
body { margin: 0 auto; max-width: 40rem; padding: 1.5rem; font: 1.05rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.35rem; overflow-wrap: anywhere; }
.details { overflow-wrap: anywhere; white-space: pre-wrap; }
fieldset { border: 1px solid var(--line); border-radius: 6px; margin: 1rem 0; }
label { display: block; font-weight: 600; margin-top: 1rem; }
fieldset label, label.truth { font-weight: 400; margin: .4rem 0; }
input, select, textarea { box-sizing: border-box; font: inherit; padding: .4rem; }
input[type=text], input[type=date], input[type=number], select, textarea { width: 100%; }
button { font: inherit; margin-top: 1.5rem; padding: .6rem 1.4rem; }
.hint { margin: .2rem 0; opacity: .8; }
.bad { color: var(--bad); font-weight: 600; margin: .2rem 0; }
@media (prefers-color-scheme: dark) { :root { --bad: #ffb4ab; } }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
CONTENT_TYPE: Final = "text/html; charset=utf-8"


def page(title: str, *parts: str) -> bytes:
    """A whole page; `parts` are HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{''.join(parts)}</main></body></html>"
    ).encode()


def paragraph(text: str, kind: str = "") -> str:
    mark = f' class="{escape(kind)}"' if kind else ""
    return f"<p{mark}>{escape(text)}</p>"


def summary(complaints: Sequence[Complaint]) -> str:
    """What is wrong, told at once to who cannot see the fields."""
    if not complaints:
        return ""
    lines = "".join(f"<li>{escape(_named(each))}</li>" for each in complaints[:50])
    return f'<div role="alert"><p class="bad">Please look again:</p><ul>{lines}</ul></div>'


def _named(complaint: Complaint) -> str:
    name = complaint.pointer.rpartition("/")[2]
    return f"{name}: {complaint.message}" if name else complaint.message


def fields(form: Form, given: Mapping[str, Any], complaints: Sequence[Complaint]) -> str:
    """The form's fields, filled in with what was given, each with what is wrong with it."""
    wrong: dict[str, str] = {}
    for each in complaints:
        wrong.setdefault(each.pointer.rpartition("/")[2], each.message)
    needed = frozenset(form.get("required", ()))
    return "".join(
        _field(name, field, given.get(name), wrong.get(name, ""), needed=name in needed)
        for name, field in fields_of(form).items()
    )


def text_area(name: str, title: str, given: str, most: int) -> str:
    return (
        f'<label for="{name}">{escape(title)}</label>'
        f'<textarea id="{name}" name="{name}" rows="3" maxlength="{most}">{escape(given)}</textarea>'
    )


def choice(name: str, title: str, options: Mapping[str, str], chosen: str) -> str:
    """One of a few, each to be seen."""
    made = "".join(
        f'<label><input type="radio" name="{name}" value="{value}" required{" checked" if value == chosen else ""}> '
        f"{escape(shown)}</label>"
        for value, shown in options.items()
    )
    return f"<fieldset><legend>{escape(title)}</legend>{made}</fieldset>"


def _field(name: str, field: Form, given: object, wrong: str, *, needed: bool) -> str:
    title = escape(str(field.get("title") or name))
    hint = (
        f'<p class="hint" id="{name}-hint">{escape(field["description"])}</p>'
        if field.get("description")
        else ""
    )
    fault = f'<p class="bad" id="{name}-bad">{escape(wrong)}</p>' if wrong else ""
    about = " ".join([f"{name}-hint"] * bool(hint) + [f"{name}-bad"] * bool(fault))
    marks = (f' aria-describedby="{about}"' if about else "") + (' aria-invalid="true"' if wrong else "")
    if field["type"] == "boolean":
        checked = " checked" if given is True else ""
        box = f'<input type="checkbox" id="{name}" name="{name}" value="true"{checked}{marks}>'
        return f'<label class="truth" for="{name}">{box} {title}</label>{hint}{fault}'
    star = "" if needed else " (optional)"
    marks += " required" if needed else ""
    return f'<label for="{name}">{title}{star}</label>{hint}{_entry(name, field, given, marks)}{fault}'


def _entry(name: str, field: Form, given: object, marks: str) -> str:
    head = f'id="{name}" name="{name}"{marks}'
    if "enum" in field:
        options = "".join(
            f'<option value="{escape(each)}"{" selected" if each == given else ""}>{escape(each)}</option>'
            for each in ("", *field["enum"])
        )
        return f"<select {head}>{options}</select>"
    value = escape("" if given is None or isinstance(given, list | dict) else str(given))
    bounds = "".join(
        f' {attribute}="{field[key]}"'
        for key, attribute in (
            ("minimum", "min"),
            ("maximum", "max"),
            ("minLength", "minlength"),
            ("maxLength", "maxlength"),
        )
        if key in field
    )
    if field["type"] != "string":
        step = "1" if field["type"] == "integer" else "any"
        return f'<input type="number" step="{step}" {head}{bounds} value="{value}">'
    kind = "date" if field.get("format") == "date" else "text"
    if kind == "text" and field.get("maxLength", 0) > 200:
        return f'<textarea rows="4" {head}{bounds}>{value}</textarea>'
    return f'<input type="{kind}" {head}{bounds} value="{value}">'
