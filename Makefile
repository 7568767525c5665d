# Nine words: demo, test, acceptance, faults, lint, install, picture, sbom, vendor. Everything lands in .venv; Debian packages are installed where we are root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# OHIF as its makers built it, for the tests that look at reports in a real viewer; kept between runs.
OHIF_VERSION := 3.13.2
OHIF := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ainode-tests/ohif/$(OHIF_VERSION)

# The judge of accessibility, for the tests that look at the console in a browser; kept as well.
AXE_VERSION := 4.14.1
AXE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ainode-tests/axe/$(AXE_VERSION)

# A FHIR R4 server in memory, for the tests that send it transactions; kept as well.
FHIR_VERSION := 5.2.13
FHIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ainode-tests/fhir/$(FHIR_VERSION)

# The scripts of others in the console. They are kept in the repository, each with its licence.
HTMX := htmx.org-2.0.11
HTMX_SSE := htmx-ext-sse-2.2.4
VENDOR := node/console/static/vendor

.PHONY: demo test acceptance faults lint install picture sbom vendor tools ohif axe fhir clean

demo: $(VENV)/.models
	$(BIN)/ainode demo

# Half of the time of the tests is fsync: where memory has room, their files lie in it.
SCRATCH := $(shell df --output=avail /dev/shm 2> /dev/null | awk 'END { print ($$1 > 12000000 ? "/dev/shm" : "/tmp") }')

# A file is one worker's, so that its servers start once; in the order of the folders, which begins with what takes longest.
# A network that computes in one thread does not wait for the core of the other worker.
# Thousands of processes start, many with handlers of the tests; where Python may write no bytecode each would compile ours anew.
# PostgreSQL refuses to run as root: its own user passes through the folder to its files.
test: tools ohif axe fhir lint
	$(BIN)/python -m compileall -q node handlers models tests/support
	folder=$$(mktemp --directory --tmpdir=$(SCRATCH) ainode-tests.XXXX) && trap "rm -rf $$folder" EXIT && chmod 711 $$folder && \
	TMPDIR=$$folder OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder

# the proofs that take minutes, which `test` leaves out
acceptance: tools $(VENV)/.dev
	$(BIN)/python -m pytest -m long

# kills, power cuts, full disks, clocks, networks, archives and models that fail: the table of what each of them cost
faults: tools $(VENV)/.dev
	PYTHONPATH=.ns:tests $(BIN)/python -m acceptance.faults $(FAULTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p ainode.node -p ainode.handlers -p ainode.models
	$(BIN)/lint-imports

install: $(VENV)/.models

# the picture of README.md: a capture of the demonstration's phantom
picture: $(VENV)/.models
	$(BIN)/ainode demo
	$(BIN)/python -c "import PIL.Image as i; i.open('ainode-demo/lung_nodule-1.png').save('node/reports/capture.png', optimize=True)"

# What a site installs as a CycloneDX bill of materials, in build/sbom/ainode.cdx.json; then what is known against the versions
# of constraints.txt. Without a way to osv.dev the last command fails: nothing was audited. node/SECURITY.md has what is open.
sbom: | $(VENV)/bin/python
	$(PYTHON) -m venv build/sbom/site
	build/sbom/site/bin/python -m pip install --quiet --constraint constraints.txt torch torchvision
	build/sbom/site/bin/python -m pip install --quiet --constraint constraints.txt '.[node,detect]'
	$(PYTHON) -m venv build/sbom/tools
	build/sbom/tools/bin/python -m pip install --quiet cyclonedx-bom pip-audit
	build/sbom/tools/bin/cyclonedx-py environment --short-PURLs --pyproject pyproject.toml --output-file build/sbom/ainode.cdx.json build/sbom/site
	build/sbom/tools/bin/pip-audit --vulnerability-service osv --no-deps --disable-pip --requirement constraints.txt

# the scripts of the console again, in the versions above; a test compares their bytes with the list beside them
vendor:
	mkdir -p build/vendor
	cd build/vendor && npm pack --silent $(subst -2,@2,$(HTMX) $(HTMX_SSE)) && for name in $(HTMX) $(HTMX_SSE); do mkdir -p $$name && tar -xzf $$name.tgz -C $$name; done
	cp build/vendor/$(HTMX)/package/dist/htmx.min.js $(VENDOR)/htmx.min.js
	cp build/vendor/$(HTMX)/package/LICENSE $(VENDOR)/htmx.LICENSE
	cp build/vendor/$(HTMX_SSE)/package/dist/sse.min.js $(VENDOR)/sse.min.js
	cp build/vendor/$(HTMX_SSE)/package/LICENSE $(VENDOR)/sse.LICENSE
	cd $(VENDOR) && sha256sum *.js *.LICENSE > SHA256SUMS

tools:
	docker/debian-packages test

ohif: $(OHIF)/package/dist/index.html

# without npm or its registry the tests that need it are skipped by name
$(OHIF)/package/dist/index.html:
	-mkdir -p $(OHIF) && cd $(OHIF) && npm pack --silent @ohif/app@$(OHIF_VERSION) && tar -xzf ohif-app-$(OHIF_VERSION).tgz

axe: $(AXE)/package/axe.min.js

$(AXE)/package/axe.min.js:
	-mkdir -p $(AXE) && cd $(AXE) && npm pack --silent axe-core@$(AXE_VERSION) && tar -xzf axe-core-$(AXE_VERSION).tgz

fhir: $(FHIR)/node_modules/@medplum/fhir-router/package.json

# its packages ask for a newer Node.js than Debian has; the script of the tests does with less
$(FHIR)/node_modules/@medplum/fhir-router/package.json:
	-mkdir -p $(FHIR) && cd $(FHIR) && npm install --silent --no-audit --no-fund --ignore-scripts @medplum/fhir-router@$(FHIR_VERSION)

$(VENV)/bin/python:
	docker/debian-packages run
	$(PYTHON) -m venv $(VENV)

# torch first and alone, in the pinned version: another package would ask for any
$(VENV)/.models: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "pip installs PyTorch and the packages of the models, about 1.5 GB: it is silent for two to ten minutes, this once"
	$(PIP) torch torchvision
	$(PIP) --editable '.[node,detect]'
	touch $@

$(VENV)/.dev: $(VENV)/.models
	@echo "pip installs the tools of the tests: it is silent for some minutes, this once"
	$(PIP) --editable '.[node,detect,train,dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache ainode-demo
