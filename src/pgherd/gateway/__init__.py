"""The process that speaks the PostgreSQL wire protocol to any client."""
