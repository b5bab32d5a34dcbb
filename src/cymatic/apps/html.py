"""Pages from the templates beside this module; whatever comes from outside is escaped by them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import jinja2


def rendered(template: str, **values: object) -> str:
    """The page of `templates/TEMPLATE`. Raises jinja2.UndefinedError for a value that the template lacks."""
    return _environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
