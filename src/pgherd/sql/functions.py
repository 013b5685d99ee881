"""What the planner knows of PostgreSQL's built-in functions: by name only, since it does not resolve overloads.

A name that is in none of these sets may be anything: it is taken for volatile, and for an aggregate. A user's function
with the name of a built-in one is taken for the built-in one.
Source: pg_proc.provolatile of PostgreSQL 18.
"""

from __future__ import annotations

SAME_EVERYWHERE = frozenset(
    """
    abbrev abs acldefault acos acosd acosh area array_append array_cat array_dims array_fill
    array_length array_lower array_ndims array_position array_positions array_prepend array_remove
    array_replace array_reverse array_sort array_to_json array_to_string array_to_tsvector array_upper
    ascii asin asind asinh atan atan2 atan2d atand atanh bit bit_count bit_length bool box bpchar
    broadcast btrim bytea cardinality casefold cbrt ceil ceiling center char char_length
    character_length chr cidr circle concat concat_ws convert convert_from convert_to cos cosd cosh cot
    cotd crc32 crc32c cume_dist current_setting current_user date date_add date_bin date_part
    date_subtract date_trunc datemultirange daterange decode degrees dense_rank diagonal diameter div
    encode enum_first enum_last enum_range erf erfc exp extract factorial family first_value float4
    float8 floor format gamma gcd generate_series generate_subscripts get_bit get_byte height host
    hostmask icu_unicode_version initcap int2 int4 int4inc int4multirange int4range int4range_canonical
    int4range_subdiff int8 int8_sum int8multirange int8range int8range_canonical int8range_subdiff
    interval is_normalized isclosed isempty isfinite isopen isparallel isperp json_array_elements
    json_array_elements_text json_array_length json_build_array json_build_object json_each
    json_each_text json_object json_object_keys json_populate_record json_populate_recordset
    json_strip_nulls json_to_record json_to_recordset json_to_tsvector json_typeof jsonb_array_elements
    jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_concat
    jsonb_each jsonb_each_text jsonb_insert jsonb_object jsonb_object_keys jsonb_path_exists
    jsonb_path_exists_tz jsonb_path_match jsonb_path_match_tz jsonb_path_query jsonb_path_query_array
    jsonb_path_query_array_tz jsonb_path_query_first jsonb_path_query_first_tz jsonb_path_query_tz
    jsonb_populate_record jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax
    jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_to_tsvector jsonb_typeof justify_days
    justify_hours justify_interval lag last_value lcm lead left length lgamma like like_escape line ln
    log log10 lower lower_inc lower_inf lpad lseg ltrim macaddr macaddr8 macaddr8_set7bit make_date
    make_interval make_time make_timestamp make_timestamptz makeaclitem masklen md5 min_scale mod money
    multirange name netmask network normalize notlike npoints nth_value ntile num_nonnulls num_nulls
    numeric nummultirange numnode numrange numrange_subdiff octet_length oid overlaps overlay
    parse_ident path pclose percent_rank pg_encoding_max_length pg_indexam_progress_phasename pg_lsn
    pg_partition_root pg_size_bytes pg_size_pretty pg_snapshot_xip pg_snapshot_xmax pg_snapshot_xmin
    pg_typeof pg_visible_in_snapshot phraseto_tsquery pi plainto_tsquery point polygon popen position
    pow power querytree quote_ident quote_literal quote_nullable radians radius range_merge range_union
    rank regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace
    regexp_split_to_array regexp_split_to_table regexp_substr repeat replace reverse right round
    row_number row_to_json rpad rtrim satisfies_hash_partition scale session_user set_bit set_byte
    set_masklen setweight sha224 sha256 sha384 sha512 sign similar_escape sin sind sinh slope split_part
    sqrt starts_with string_to_array string_to_table strip strpos substr substring tan tand tanh text
    textcat textlen time timestamp timestamptz timetz timezone to_ascii to_bin to_char to_date to_hex
    to_json to_jsonb to_number to_oct to_timestamp to_tsquery to_tsvector translate trim_array
    trim_scale trunc ts_delete ts_filter ts_headline ts_lexize ts_rank ts_rank_cd tsmultirange
    tsquery_phrase tsrange tsrange_subdiff tstzmultirange tstzrange tstzrange_subdiff tsvector_to_array
    txid_snapshot_xip txid_snapshot_xmax txid_snapshot_xmin txid_visible_in_snapshot unistr unnest upper
    upper_inc upper_inf uuid_extract_timestamp uuid_extract_version varbit varchar version
    websearch_to_tsquery width width_bucket xid xml_is_well_formed_content xml_is_well_formed_document
    xmlcomment xmlexists xmltext xmlvalidate xpath xpath_exists
    """.split()  # noqa: SIM905
)
"""The answer depends on the arguments and the session's settings alone: the same in every group."""

ABOUT_OBJECTS = (
    "pg_",
    "has_",
    "to_reg",
    "obj_description",
    "col_description",
    "shobj_description",
    "format_type",
)
"""How the names of functions begin that take OIDs of tables, types and other objects, which differ from group to group."""

HARMLESS = frozenset(
    """
    aclexplode age array_sample array_shuffle clock_timestamp col_description current_database
    current_query current_schema current_schemas currval database_to_xml database_to_xml_and_xmlschema
    database_to_xmlschema format_type gen_random_uuid get_current_ts_config getdatabaseencoding
    getpgusername grouping has_any_column_privilege has_column_privilege has_database_privilege
    has_foreign_data_wrapper_privilege has_function_privilege has_language_privilege
    has_largeobject_privilege has_parameter_privilege has_schema_privilege has_sequence_privilege
    has_server_privilege has_table_privilege has_tablespace_privilege has_type_privilege
    inet_client_addr inet_client_port inet_server_addr inet_server_port jsonb_populate_record_valid
    lastval merge_action mxid_age now obj_description pg_available_extension_versions
    pg_available_extensions pg_backend_pid pg_basetype pg_blocking_pids pg_char_to_encoding
    pg_client_encoding pg_collation_for pg_collation_is_visible pg_column_compression
    pg_column_is_updatable pg_column_size pg_column_toast_chunk_id pg_conf_load_time pg_config
    pg_control_checkpoint pg_control_system pg_conversion_is_visible pg_current_logfile
    pg_current_snapshot pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn
    pg_current_xact_id pg_current_xact_id_if_assigned pg_cursor pg_database_size pg_describe_object
    pg_encoding_to_char pg_extension_update_paths pg_filenode_relation pg_function_is_visible pg_get_acl
    pg_get_catalog_foreign_keys pg_get_constraintdef pg_get_expr pg_get_function_arg_default
    pg_get_function_arguments pg_get_function_identity_arguments pg_get_function_result
    pg_get_function_sqlbody pg_get_functiondef pg_get_indexdef pg_get_keywords pg_get_object_address
    pg_get_partition_constraintdef pg_get_partkeydef pg_get_publication_tables
    pg_get_replica_identity_index pg_get_replication_slots pg_get_ruledef pg_get_serial_sequence
    pg_get_statisticsobjdef pg_get_statisticsobjdef_columns pg_get_statisticsobjdef_expressions
    pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_has_role pg_hba_file_rules pg_identify_object
    pg_identify_object_as_address pg_index_column_has_property pg_index_has_property
    pg_indexam_has_property pg_indexes_size pg_input_error_info pg_input_is_valid pg_is_in_recovery
    pg_is_other_temp_schema pg_jit_available pg_last_wal_receive_lsn pg_last_wal_replay_lsn
    pg_last_xact_replay_timestamp pg_listening_channels pg_lock_status pg_ls_dir pg_mcv_list_items
    pg_my_temp_schema pg_notification_queue_usage pg_numa_available pg_opclass_is_visible
    pg_operator_is_visible pg_opfamily_is_visible pg_options_to_table pg_partition_ancestors
    pg_partition_tree pg_postmaster_start_time pg_prepared_statement pg_read_file pg_relation_filenode
    pg_relation_filepath pg_relation_is_publishable pg_relation_is_updatable pg_relation_size
    pg_replication_origin_oid pg_sequence_last_value pg_sequence_parameters pg_settings_get_flags
    pg_show_all_file_settings pg_show_all_settings pg_sleep pg_sleep_for pg_sleep_until
    pg_split_walfile_name pg_stat_file pg_stat_get_xact_numscans pg_statistics_obj_is_visible
    pg_table_is_visible pg_table_size pg_tablespace_databases pg_tablespace_location pg_tablespace_size
    pg_timezone_abbrevs_abbrevs pg_timezone_abbrevs_zone pg_timezone_names pg_total_relation_size
    pg_trigger_depth pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible
    pg_ts_template_is_visible pg_type_is_visible pg_xact_status random random_normal regclass
    row_security_active schema_to_xml schema_to_xml_and_xmlschema schema_to_xmlschema setseed
    shobj_description statement_timestamp system_user table_to_xml table_to_xml_and_xmlschema
    table_to_xmlschema timeofday to_regclass to_regcollation to_regnamespace to_regoper to_regoperator
    to_regproc to_regprocedure to_regrole to_regtype to_regtypemod transaction_timestamp ts_debug
    ts_parse ts_token_type txid_current txid_current_if_assigned txid_current_snapshot txid_status
    uuidv4 uuidv7 xml xml_is_well_formed
    """.split()  # noqa: SIM905
)
"""Changes nothing, but the answer may depend on the time, the server or chance."""

AGGREGATES = frozenset(
    """
    any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp
    every json_agg json_agg_strict json_object_agg json_object_agg_strict json_object_agg_unique
    json_object_agg_unique_strict jsonb_agg jsonb_agg_strict jsonb_object_agg jsonb_object_agg_strict
    jsonb_object_agg_unique jsonb_object_agg_unique_strict max min mode percentile_cont percentile_disc
    range_agg range_intersect_agg regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope
    regr_sxx regr_sxy regr_syy stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance
    xmlagg
    """.split()  # noqa: SIM905
)
"""Aggregate functions (hypothetical-set ones such as rank need WITHIN GROUP, which tells)."""

GROUP_ZERO = frozenset(
    """
    current_database currval lastval nextval pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock
    pg_advisory_unlock_all pg_advisory_unlock_shared pg_advisory_xact_lock pg_advisory_xact_lock_shared
    pg_backend_pid pg_current_snapshot pg_current_wal_lsn
    pg_current_xact_id pg_current_xact_id_if_assigned pg_export_snapshot pg_notify pg_try_advisory_lock
    pg_try_advisory_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared setval
    txid_current txid_current_if_assigned
    """.split()  # noqa: SIM905
)
"""Their state lives on group 0 alone: sequences, advisory locks, notifications, transaction ids, the database's name."""

PINNING = frozenset(
    """
    pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all
    pg_advisory_unlock_shared pg_export_snapshot pg_try_advisory_lock pg_try_advisory_lock_shared
    setseed
    """.split()  # noqa: SIM905
)
"""They leave state on, or read it from, their server connection."""

KNOWN = SAME_EVERYWHERE | HARMLESS | AGGREGATES
"""Functions that certainly write nothing."""

STEADY = (
    SAME_EVERYWHERE
    | AGGREGATES
    | frozenset(
        """
        age col_description current_database current_schema current_schemas format_type get_current_ts_config
        getdatabaseencoding grouping has_any_column_privilege has_column_privilege has_database_privilege
        has_function_privilege has_schema_privilege has_sequence_privilege has_table_privilege has_type_privilege
        inet_client_addr inet_client_port inet_server_addr inet_server_port jsonb_populate_record_valid mxid_age now
        obj_description pg_basetype pg_client_encoding pg_collation_for pg_column_size pg_get_constraintdef pg_get_expr
        pg_get_indexdef pg_get_userbyid pg_get_viewdef pg_has_role pg_input_is_valid pg_postmaster_start_time
        pg_table_is_visible pg_type_is_visible row_security_active shobj_description statement_timestamp system_user
        to_regclass to_regnamespace to_regproc to_regrole to_regtype transaction_timestamp ts_debug ts_parse
        ts_token_type xml xml_is_well_formed
        """.split()  # noqa: SIM905
    )
)
"""Certainly immutable or stable, and the same on every node of a group: a replica may answer."""
