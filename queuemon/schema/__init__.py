"""The tables of the contract: their Core objects with logical names (tables), and their migrations (migrate)."""
