# make demo and make test set up everything they need; a Python of at least 3.11, pip and make are enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
OUT := demo-out

.PHONY: demo test lint types unit docs bench fuzz clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

# Each search must end with exit code 1 (a bug was found), each replay too; anything else stops the demo.
demo: $(STAMP)
	@rm -rf $(OUT)
	@echo "== Break the founding patch: rmdir races the last free =="
	@$(BIN)/slabactors explore dead-cache/rmdir-races-last-free --lifecycle v5 --runs 20000 --save $(OUT); test $$? -eq 1
	@echo
	@echo "== The same story under a repaired protocol: every interleaving =="
	@$(BIN)/slabactors verify dead-cache/rmdir-races-last-free --lifecycle repaired
	@echo
	@echo "== Every finding again, from its file =="
	@for finding in $(OUT)/*.json; do \
	  $(BIN)/slabactors replay $$finding > $(OUT)/replay.txt; test $$? -eq 1 || exit 1; head -n 2 $(OUT)/replay.txt; done
	@echo
	@echo "== Why the first of them happened =="
	@$(BIN)/slabactors why $$(ls $(OUT)/*.json | head -n 1); test $$? -eq 1
	@echo
	@echo "== Before the founding patch an emptied cache stays for ever; with it, it goes away =="
	@$(BIN)/slabactors run dead-cache/emptied --lifecycle pre-patch; test $$? -eq 1
	@$(BIN)/slabactors run dead-cache/freed-later --lifecycle v5
	@echo
	@echo "== The same machine live, on asyncio and on trio =="
	@$(BIN)/slabactors run dead-cache/freed-later --runtime asyncio
	@$(BIN)/slabactors run dead-cache/freed-later --runtime trio
	@echo
	@echo "== What a real kernel did, played under the founding patch =="
	@$(BIN)/slabactors trace tests/data/trace/trace-cgroup.txt --lifecycle v5

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

# A process for each CPU; what measures times runs by itself, after the others.
unit: $(STAMP)
	$(BIN)/pytest -n auto --dist worksteal -m "not alone"
	$(BIN)/pytest -m alone

# A page that no index leads to, a link or an anchor that leads nowhere, anything loaded from the network: all are errors.
# It is built anew each time, since Sphinx does not warn again about a page that has not changed.
docs: $(STAMP)
	@rm -rf build/docs build/docs.cache
	$(BIN)/python -m sphinx -W -q -c docs -d build/docs.cache . build/docs
	$(BIN)/python -m tests.docs.site build/docs
	@echo "build/docs/index.html"

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks

# Exhaustive search against brute force on 10,000 random programs, and 10,000 random workloads; some minutes.
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz 10000

clean:
	rm -rf $(VENV) $(OUT) build dist
