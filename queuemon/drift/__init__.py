"""Where PostgreSQL and Redis disagree: found by looking twice, repaired by a plan. The workbench is the only caller."""
