"""The fixtures of all tests; they live in tests/support, one file per kind."""

pytest_plugins = [
    "tests.support.actions",
    "tests.support.browser",
    "tests.support.engine",
    "tests.support.operator",
    "tests.support.proofs",
    "tests.support.runbooks",
    "tests.support.stores",
    "tests.support.story",
]
