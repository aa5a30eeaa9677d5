# Everything that a person or CI runs. Each target makes .venv when it is missing or outdated.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
TESTABLE := .venv/testable
# Some images set this variable. Python then caches no bytecode, and each process of a cluster compiles the project.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: install demo test check static simulate audit sbom torture soak fuzz overload bench docs screenshots lock clean

install: $(INSTALLED)

$(INSTALLED): .ci/requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	@echo 'installing libraries and a Java into .venv, once: 200 MB, up to a minute'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement .ci/requirements.txt
	-$(BIN)/python -m scripts.prepare
	touch $@

# The same and what only tests and developers need.
$(TESTABLE): $(INSTALLED) .ci/requirements-test.txt
	@echo 'installing what tests need into .venv, once: up to two minutes'
	$(BIN)/pip install --quiet --require-hashes --requirement .ci/requirements-test.txt
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m scripts.demo

# All that CI checks. Tests run in several processes: clusters wait in some of them while others compute.
PROCESSES ?= 5
test: $(TESTABLE) static audit
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses $(PROCESSES)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# What to run while working: format, lint, types and unit tests, in a minute.
check: $(TESTABLE) static
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) tests/unit tests/simulation/test_schedules.py

static: $(TESTABLE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive common facade nodes registry scripts

# Replication under simulated faults, so many seeds; a seed that fails is printed, and replays with FIRST=seed SEEDS=1.
SEEDS ?= 300
FIRST ?= 0
simulate: $(TESTABLE)
	$(BIN)/python -m tests.simulation.run --seeds $(SEEDS) --first $(FIRST)

# Known vulnerabilities of installed packages. A source of advisories that does not answer is reported, and is no failure.
audit: $(TESTABLE)
	$(BIN)/python -m tests.tools.advisories .ci/requirements.txt .ci/requirements-test.txt

# The software bill of materials (CycloneDX).
sbom: $(TESTABLE)
	mkdir -p build
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json .ci/requirements.txt

# Faults on real clusters under load, and the checker's verdict: about 25 s a fault.
torture: $(INSTALLED)
	$(BIN)/python -m tests.chaos.torture

# A loaded cluster with a random fault every half minute, for so many minutes; a report and a plot in data/.
MINUTES ?= 60
soak: $(INSTALLED)
	$(BIN)/python -m tests.chaos.soak --minutes $(MINUTES) --report data/soak.json --plot data/soak.svg

# Fuzzing over HTTP and the wire, about 20 minutes; each finding becomes a test.
SEED ?= 1
fuzz: $(TESTABLE)
	$(BIN)/python -m tests.fuzz.run --http 200000 --frames 1000000 --seconds-of-coverage 300 --seed $(SEED)

# A facade under up to five times its peak load; draws docs/overload.svg.
overload: $(TESTABLE)
	$(BIN)/python -m tests.bench.overload

# Figures beside a bare echo, in one run of about 20 minutes; needs wrk (apt-get install wrk).
bench: $(TESTABLE)
	$(BIN)/python -m tests.bench.run

# Pins what pyproject.toml asks for, with hashes and without addresses.
LOCK := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --no-annotate --python-version 3.11
lock: $(TESTABLE)
	$(LOCK) --upgrade --all-extras --output-file .ci/requirements-test.txt pyproject.toml
	$(LOCK) --constraint .ci/requirements-test.txt --extra cluster --output-file .ci/requirements.txt pyproject.toml

# Documents that are generated from the code.
docs: $(INSTALLED)
	$(BIN)/python -m tests.tools.reference

# Pictures of the page for README.md, of a running cluster; needs chromium.
screenshots: $(TESTABLE)
	$(BIN)/python -m tests.tools.screenshots

clean:
	rm -rf .venv data
