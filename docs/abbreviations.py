# SPDX-License-Identifier: Apache-2.0
"""Hook of mkdocs: abbreviations of the glossary get their meaning as a tooltip on every page."""

from __future__ import annotations

import re
from typing import Any

ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \|$", re.M)
"""Terms and meaning of a row of the glossary."""


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """The page with a definition for each term of the glossary that is written in capitals."""
    if page.file.src_uri == "glossary.md":
        return markdown
    with open(f"{config['docs_dir']}/glossary.md", encoding="utf-8") as file:
        rows = ROW.findall(file.read())
    terms = [(term, meaning.replace("`", "")) for names, meaning in rows for term in re.split(r", | \(", names)]
    named = "\n".join(f"*[{term}]: {meaning}" for term, meaning in terms if re.search("[A-Z]{2}|[A-Z][0-9]|CVA", term))
    return f"{markdown}\n\n{named}\n"
