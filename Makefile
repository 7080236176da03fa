# One virtual environment for everything here; versions are pinned in .ci/constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test test-python test-js test-host lint train bench comfy clean

demo: $(READY)
	$(VENV)/bin/dragnoise demo --out out

test: test-python test-js test-host

$(READY): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint .ci/constraints.txt --editable ".[standalone,test]"
	touch $@

test-python: $(READY)
	$(VENV)/bin/python -m pytest tests --ignore tests/host

test-js:
	@if [ -d tests/js ]; then node --test tests/js/; fi

test-host: $(READY)
	@if [ -f tests/host/run.py ]; then $(VENV)/bin/python tests/host/run.py; fi

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

train: $(READY)
	$(VENV)/bin/python -m dragnoise_core.demo.training --out out/training

bench: $(READY)
	$(VENV)/bin/dragnoise bench speed

# Starts ComfyUI with this folder among its custom nodes; ARGS go to ComfyUI.
comfy:
	$(PYTHON) .ci/start_comfy.py $(ARGS)

clean:
	rm -rf $(VENV) .venv-comfy-cli out
