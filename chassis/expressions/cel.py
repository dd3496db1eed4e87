"""Google's engine, by its own names: loaded with the first expression, so that who has none does not pay for it (10 MB)."""

from typing import Any


def __getattr__(name: str) -> Any:
    from cel_expr_python import cel

    return getattr(cel, name)
