"""What the text of a function or a DO block says about distributed tables. Pure, and a guess: such text is only parsed when it runs."""

from __future__ import annotations

import re
from typing import Final

from pgherd.catalog.model import ClusterMap, Table

_BEFORE_NAME: Final = (
    r'(?:from|join|into|update|only|table|using)\s+(?:only\s+)?(?:"?{schema}"?\s*\.\s*)?"?{name}"?(?![\w"])'
)


def _mentions(body: str, table: Table) -> bool:
    pattern = _BEFORE_NAME.format(schema=re.escape(table.schema), name=re.escape(table.name))
    return re.search(pattern, body, re.IGNORECASE) is not None


def distributed_in(body: str, cluster: ClusterMap) -> Table | None:
    """The first distributed table (or view of one) that the text seems to read or write."""
    tables = (
        table for table in cluster.tables.values() if table.kind == "distributed" or table.distributed_view
    )
    return next((table for table in tables if _mentions(body, table)), None)
