"""The embedded demo: real PostgreSQL and Valkey from wheels, and a believable workload on them; `queuemon demo` uses it."""
