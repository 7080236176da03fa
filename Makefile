# One virtual environment for everything here; versions are pinned in .ci/constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test test-python test-js test-host chromium lint train bench pictures comfy clean

demo: $(READY)
	$(VENV)/bin/dragnoise demo --out out

test: test-python test-js test-host

$(READY): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint .ci/constraints.txt --editable ".[standalone,test,bench]"
	touch $@

# The browser tests drive the distribution's Chromium; where it can neither be found nor installed they are skipped.
chromium:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update \
		&& apt-get -qq install -y chromium >/dev/null; } || echo "no Chromium: the browser tests will be skipped"

test-python: $(READY) chromium
	$(VENV)/bin/python -m pytest tests --ignore tests/host

test-js:
	@if command -v node >/dev/null; then node --test tests/js/; else echo "ALL JAVASCRIPT TESTS SKIPPED: no node"; fi

test-host: $(READY)
	$(VENV)/bin/python tests/host/run.py

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

train: $(READY)
	$(VENV)/bin/python -m dragnoise_core.demo.training.train --out out/training \
		--seconds-autoencoder 175 --seconds-regressor 50 --seconds-unet 696

bench: $(READY)
	$(VENV)/bin/dragnoise bench edits

# Makes the pictures of workflows, help pages and README anew, in the real page, and those of the troubleshooting page;
# ARGS are workflows' numbers, and then only those are made.
pictures: $(READY) chromium
	$(VENV)/bin/python tests/browser/make_pictures.py $(ARGS)
	$(if $(ARGS),,$(VENV)/bin/python .ci/draw_symptoms.py)

# Starts ComfyUI with this folder among its custom nodes; ARGS go to ComfyUI.
comfy:
	$(PYTHON) .ci/start_comfy.py $(ARGS)

clean:
	rm -rf $(VENV) .venv-comfy-cli out

# Ten thousand cases at every door; the table of what came of them is the page about it.
.PHONY: fuzz
fuzz: $(READY)
	FUZZ_CASES=10000 FUZZ_REPORT=docs/fuzzing.md $(VENV)/bin/python -m pytest tests/fuzz
