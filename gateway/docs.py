"""The API's reference as a page of our own: no script, nothing from elsewhere, readable offline."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any, Final

import yaml
from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from msgspec import Struct

STYLE: Final = """\
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; font: 16px/1.5 system-ui, sans-serif; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); border-radius: 6px; overflow-x: auto; padding: .75rem; }
section { border-top: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; }
.method { display: inline-block; font-weight: 600; min-width: 4.5rem; }
.scope { float: right; opacity: .7; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .5rem .25rem 0; text-align: left; vertical-align: top; }
nav a { margin-right: 1rem; }
"""


class Reference(Struct, frozen=True, kw_only=True):
    """The document in the three shapes in which it is served, made once."""

    page: bytes
    json: bytes
    yaml: bytes


class _Plain(yaml.SafeDumper):
    """Writes a value that stands in two places twice: an alias is for programs."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def yaml_of(document: Mapping[str, Any]) -> str:
    return yaml.dump(dict(document), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


def reference(document: Mapping[str, Any]) -> Reference:
    return Reference(
        page=page(document).encode(),
        json=json.dumps(document, ensure_ascii=False).encode(),
        yaml=yaml_of(document).encode(),
    )


def page(document: Mapping[str, Any]) -> str:
    info = document["info"]
    by_tag: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag[operation["tags"][0]].append(_operation(method, path, operation))
    links = "".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in by_tag)
    parts = "".join(
        f'<h2 id="{escape(tag)}">{escape(tag)}</h2>{"".join(shown)}' for tag, shown in by_tag.items()
    )
    schemas = "".join(
        f'<section id="schema-{escape(name)}"><details><summary><code>{escape(name)}</code> '
        f"{escape(schema.get('description', ''))}</summary>{_json(schema)}</details></section>"
        for name, schema in document["components"]["schemas"].items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title>"
        '<link rel="stylesheet" href="/docs/style.css"></head><body>'
        f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1><p>{escape(info['description'])}</p>"
        '<p><a href="/docs/openapi.yaml">openapi.yaml</a> · <a href="/docs/openapi.json">openapi.json</a></p>'
        f'<nav>{links}<a href="#schemas">schemas</a></nav>{parts}<h2 id="schemas">schemas</h2>{schemas}'
        "</body></html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    scope = escape(operation.get("x-scope", ""))
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
        f"<td>{escape(each.get('description', ''))}</td></tr>"
        for each in operation["parameters"]
    )
    bodies = "".join(
        f"<p>{title}: {_reference(content)}</p>"
        for title, content in (
            ("Body", operation.get("requestBody", {}).get("content", {})),
            *(
                (f"Answer {status}", answer.get("content", {}))
                for status, answer in operation["responses"].items()
            ),
        )
        if content
    )
    return (
        f'<section id="{escape(operation["operationId"])}"><details><summary>'
        f'<span class="scope">{scope}</span><span class="method">{method.upper()}</span> '
        f"<code>{escape(path)}</code><br>{escape(operation['summary'])}</summary>"
        f"<p>{escape(operation['description'])}</p>"
        f"{f'<table>{rows}</table>' if rows else ''}{bodies}</details></section>"
    )


def _reference(content: Mapping[str, Any]) -> str:
    kind, media = next(iter(content.items()))
    name = media.get("schema", {}).get("$ref", "").rpartition("/")[2]
    link = f' <a href="#schema-{escape(name)}"><code>{escape(name)}</code></a>' if name else ""
    return f"<code>{escape(kind)}</code>{link}"


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


@get("/docs", include_in_schema=False)
async def get_page(docs: NamedDependency[Reference]) -> Response[bytes]:
    """The page."""
    return Response(docs.page, media_type=MediaType.HTML)


@get("/docs/style.css", include_in_schema=False)
async def get_style() -> Response[str]:
    """Its style."""
    return Response(STYLE, media_type="text/css; charset=utf-8")


@get("/docs/openapi.json", include_in_schema=False)
async def get_json(docs: NamedDependency[Reference]) -> Response[bytes]:
    """The document as JSON."""
    return Response(docs.json, media_type="application/json")


@get("/docs/openapi.yaml", include_in_schema=False)
async def get_yaml(docs: NamedDependency[Reference]) -> Response[bytes]:
    """The document as YAML."""
    return Response(docs.yaml, media_type="application/yaml; charset=utf-8")


ROUTES: Final = [get_page, get_style, get_json, get_yaml]
