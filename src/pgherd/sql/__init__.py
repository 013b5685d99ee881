"""SQL as text: parsed by libpg_query, edited in place."""
