"""Command tags of definitions, as PostgreSQL answers them (src/include/tcop/cmdtaglist.h)."""

from __future__ import annotations

from typing import Final

import postgast

from pgherd.sql.statement import Statement

_objects = postgast.pg_query_pb2.ObjectType

_FIXED: Final = {
    "create_stmt": "CREATE TABLE", "index_stmt": "CREATE INDEX", "reindex_stmt": "REINDEX", "view_stmt": "CREATE VIEW",
    "refresh_mat_view_stmt": "REFRESH MATERIALIZED VIEW", "create_trig_stmt": "CREATE TRIGGER",
    "create_policy_stmt": "CREATE POLICY", "alter_policy_stmt": "ALTER POLICY", "rule_stmt": "CREATE RULE",
    "create_stats_stmt": "CREATE STATISTICS", "alter_stats_stmt": "ALTER STATISTICS", "comment_stmt": "COMMENT",
    "create_seq_stmt": "CREATE SEQUENCE", "alter_seq_stmt": "ALTER SEQUENCE", "create_schema_stmt": "CREATE SCHEMA",
    "create_enum_stmt": "CREATE TYPE", "alter_enum_stmt": "ALTER TYPE", "composite_type_stmt": "CREATE TYPE",
    "create_range_stmt": "CREATE TYPE", "alter_type_stmt": "ALTER TYPE", "create_domain_stmt": "CREATE DOMAIN",
    "alter_domain_stmt": "ALTER DOMAIN", "create_cast_stmt": "CREATE CAST", "create_conversion_stmt": "CREATE CONVERSION",
    "create_transform_stmt": "CREATE TRANSFORM", "create_am_stmt": "CREATE ACCESS METHOD", "create_plang_stmt": "CREATE LANGUAGE",
    "create_op_class_stmt": "CREATE OPERATOR CLASS", "create_op_family_stmt": "CREATE OPERATOR FAMILY",
    "alter_op_family_stmt": "ALTER OPERATOR FAMILY", "alter_operator_stmt": "ALTER OPERATOR",
    "create_extension_stmt": "CREATE EXTENSION", "alter_extension_stmt": "ALTER EXTENSION",
    "alter_extension_contents_stmt": "ALTER EXTENSION", "create_role_stmt": "CREATE ROLE", "alter_role_stmt": "ALTER ROLE",
    "alter_role_set_stmt": "ALTER ROLE", "drop_role_stmt": "DROP ROLE", "alter_default_privileges_stmt": "ALTER DEFAULT PRIVILEGES",
    "do_stmt": "DO", "sec_label_stmt": "SECURITY LABEL", "alter_collation_stmt": "ALTER COLLATION",
    "alter_tsdictionary_stmt": "ALTER TEXT SEARCH DICTIONARY", "alter_tsconfiguration_stmt": "ALTER TEXT SEARCH CONFIGURATION",
}  # fmt: skip

_WORDS: Final = {
    "MATVIEW": "MATERIALIZED VIEW", "TSPARSER": "TEXT SEARCH PARSER", "TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "TSTEMPLATE": "TEXT SEARCH TEMPLATE", "TSCONFIGURATION": "TEXT SEARCH CONFIGURATION", "STATISTIC_EXT": "STATISTICS",
    "OPCLASS": "OPERATOR CLASS", "OPFAMILY": "OPERATOR FAMILY", "FOREIGN_TABLE": "FOREIGN TABLE", "EVENT_TRIGGER": "EVENT TRIGGER",
    "ACCESS_METHOD": "ACCESS METHOD", "FOREIGN_SERVER": "SERVER", "FDW": "FOREIGN DATA WRAPPER", "TABCONSTRAINT": "TABLE",
    "DOMCONSTRAINT": "DOMAIN", "ATTRIBUTE": "TYPE",
}  # fmt: skip


def _words(number: int) -> str:
    name = _objects.Name(number).removeprefix("OBJECT_")
    return _WORDS.get(name, name)


def tag_of(statement: Statement) -> str:
    """The command tag of a definition."""
    tree = statement.tree
    match statement.kind:
        case "drop_stmt":
            return f"DROP {_words(tree.remove_type)}"
        case "alter_table_stmt":
            return f"ALTER {_words(tree.objtype)}"
        case "rename_stmt":
            of_relation = tree.rename_type in (
                _objects.Value("OBJECT_COLUMN"),
                _objects.Value("OBJECT_ATTRIBUTE"),
            )
            return f"ALTER {_words(tree.relation_type if of_relation else tree.rename_type)}"
        case "alter_owner_stmt" | "alter_object_schema_stmt" | "alter_object_depends_stmt":
            return f"ALTER {_words(tree.object_type)}"
        case "alter_function_stmt":
            return f"ALTER {_words(tree.objtype)}"
        case "define_stmt":
            return f"CREATE {_words(tree.kind)}"
        case "create_function_stmt":
            return "CREATE PROCEDURE" if tree.is_procedure else "CREATE FUNCTION"
        case "grant_stmt":
            return "GRANT" if tree.is_grant else "REVOKE"
        case "grant_role_stmt":
            return "GRANT ROLE" if tree.is_grant else "REVOKE ROLE"
        case kind:
            return _FIXED.get(kind, kind.removesuffix("_stmt").replace("_", " ").upper())
