"""Definitions: every CREATE, ALTER, DROP, GRANT and COMMENT, carried out in all groups in the caller's distributed transaction.

The user's own text runs on group 0 first: PostgreSQL checks it there, and its catalogs then say what it meant. The other groups
and the physical tables follow from that. Notices of groups other than 0 repeat group 0's; show only those of group 0.
"""

from __future__ import annotations

from pgherd.catalog.ddl.apply import apply

__all__ = ["apply"]
