# Everything that a person or CI runs. Each target makes .venv when it is missing or outdated.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: install demo test check torture bench lock clean

install: $(INSTALLED)

$(INSTALLED): .ci/requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement .ci/requirements.txt
	-$(BIN)/python -m scripts.prepare
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m scripts.demo

# All that CI checks.
test: $(INSTALLED) check
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Faults on real clusters under load, and the checker's verdict: about 25 s a fault.
torture: $(INSTALLED)
	$(BIN)/python -m scripts.torture

# Figures beside a bare echo and the store alone, in one run of about 25 minutes; needs wrk (apt-get install wrk).
bench: $(INSTALLED)
	$(BIN)/python -m tests.bench

# Pins what pyproject.toml asks for, with hashes and without addresses.
lock: $(INSTALLED)
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-emit-index-url --no-annotate \
		--python-version 3.11 --all-extras --output-file .ci/requirements.txt pyproject.toml

clean:
	rm -rf .venv data
