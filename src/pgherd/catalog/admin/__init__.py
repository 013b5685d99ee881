"""Admin procedures: CALL pgherd.split, move, merge, reference, distribute, undistribute, and those about workflows."""

from __future__ import annotations

from pgherd.catalog.admin.call import PROCEDURES, call, is_online

__all__ = ["PROCEDURES", "call", "is_online"]
