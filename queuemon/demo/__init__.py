"""The embedded demo: real PostgreSQL and Valkey from wheels, a believable workload on them; `queuemon demo` uses it."""
