# queuemon: one command each. `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Further words for `queuemon lab`, and levels of tests to run instead of all.
LAB ?=
LEVELS ?=

.DEFAULT_GOAL := help
.PHONY: help setup lab serve test lint format prove bench screenshots docs lock upgrade system-packages clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv with everything, pinned and checked by hash (PYTHON=python3.12 picks another Python)

$(READY): requirements.lock pyproject.toml tools/setup
	@tools/setup "$(PYTHON)"
	@touch $@

lab: setup ## Open JupyterLab on the dashboard; the embedded demo starts when nothing is configured
	@$(BIN)/queuemon lab $(LAB)

serve: setup ## Show the same dashboard as a web page
	@$(BIN)/queuemon serve

test: setup system-packages ## Run everything: lint, unit, integration on both pairs of stores, acceptance (of the kills a part on both), browser, notebooks (LEVELS="unit browser" picks)
	@$(BIN)/python -m tools.suite $(LEVELS)

lint: setup ## Check format, style, types, import rules and notebooks
	@$(BIN)/python -m tools.suite lint

format: setup ## Format the code and strip the outputs of notebooks
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix . && $(BIN)/python -m tools.notebooks --fix

prove: setup system-packages ## Run the long proofs in full; what is proven is kept in proofs/ and not repeated
	@$(BIN)/python -m pytest -m prove --proofs=proofs --timeout=0

bench: setup ## Measure the speeds, as ratios to a bare baseline of the same run
	@$(BIN)/python -m bench

screenshots: setup system-packages ## Take the pictures of every screen again, light and dark: docs/screens/
	@$(BIN)/python -m tools.screenshots

docs: setup ## Write docs/cli.md anew from the commands' own help
	@$(BIN)/python -m tools.reference

lock: setup ## Pin what pyproject.toml asks for: requirements.lock and environment.yml
	@tools/lock

upgrade: setup ## The same, with the newest releases
	@tools/lock --upgrade

system-packages: ## Install what the tests need from Debian, where that is allowed
	@tools/system-packages

clean: ## Remove what these commands made, except runs/ and the data of the embedded stack
	@rm -rf .venv dist build test-artifacts proofs .*_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
