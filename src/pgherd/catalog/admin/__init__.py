"""Admin procedures: CALL pgherd.split, move, reference, distribute, undistribute."""

from __future__ import annotations

from pgherd.catalog.admin.call import PROCEDURES, call

__all__ = ["PROCEDURES", "call"]
