"""queuemon: the ops workbench for background jobs that live in PostgreSQL and Redis."""
