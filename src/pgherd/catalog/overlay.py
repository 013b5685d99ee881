"""Which catalogs users see through views that hide pgherd's own schemas and tables (made by sql/80_overlay.sql). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# the schema of the view that stands for a catalog of the same name
TARGETS: Final[Mapping[str, str]] = {
    "pg_catalog": "pgherd_catalog",
    "information_schema": "pgherd_information",
}

_CATALOGS: Final = """
    pg_class pg_constraint pg_depend pg_extension pg_foreign_data_wrapper pg_foreign_server pg_foreign_table
    pg_indexes pg_inherits pg_matviews pg_namespace pg_partitioned_table pg_policies pg_proc pg_rewrite pg_rules
    pg_sequences pg_statistic_ext pg_tables pg_trigger pg_type pg_user_mappings pg_views
"""

_INFORMATION: Final = """
    attributes character_sets check_constraint_routine_usage check_constraints column_column_usage
    column_domain_usage column_options column_privileges column_udt_usage columns
    constraint_column_usage constraint_table_usage data_type_privileges domain_constraints
    domain_udt_usage domains element_types foreign_table_options foreign_tables key_column_usage
    parameters referential_constraints role_column_grants role_routine_grants role_table_grants
    role_udt_grants role_usage_grants routine_column_usage routine_privileges routine_routine_usage
    routine_sequence_usage routine_table_usage routines schemata sequences table_constraints
    table_privileges tables transforms triggered_update_columns triggers udt_privileges
    usage_privileges user_defined_types view_column_usage view_routine_usage view_table_usage views
"""

OVERLAID: Final[frozenset[tuple[str, str]]] = frozenset(
    [("pg_catalog", name) for name in _CATALOGS.split()]
    + [("information_schema", name) for name in _INFORMATION.split()]
)


def overlaid(schema: str | None, name: str) -> str | None:
    """The schema to read a catalog from instead of its own, or None: read it as it is. No schema means pg_catalog."""
    home = schema or "pg_catalog"
    return TARGETS[home] if (home, name) in OVERLAID else None
