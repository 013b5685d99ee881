"""A cluster grows by a group, and shrinks by one that holds no shard, while statements go on.

The new group is filled completely, and committed, before the other groups learn of it in one distributed transaction: whoever reads the
new cluster map finds everything in its place. Until then nobody knows the new group, and whoever is killed leaves a
database behind that is thrown away when the command is repeated.
"""

from __future__ import annotations

from pgherd.catalog.growth.add import add_group, is_leftover, next_group
from pgherd.catalog.growth.filling import Dump
from pgherd.catalog.growth.remove import remove_group

__all__ = ["Dump", "add_group", "is_leftover", "next_group", "remove_group"]
