"""Admin procedures: CALL pgherd.split, move, merge, reference, distribute, undistribute, and those about workflows."""

from __future__ import annotations

from pgherd.catalog.admin.arguments import type_of
from pgherd.catalog.admin.call import PROCEDURES, argument_types, call, is_online, parameter_types

__all__ = ["PROCEDURES", "argument_types", "call", "is_online", "parameter_types", "type_of"]
