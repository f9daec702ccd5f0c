"""Two sessions and one row: for every statement that changes something, what it does to a row that another one holds.

`tests/integration/test_races.py` is the only user. A race plants rows, lets session A change one and keep its
transaction open, runs the statement in session B, and says what B answers and what stands once both have committed.
"""
