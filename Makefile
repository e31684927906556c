# Every command sets up what it needs on its first run; later runs start at once.
#
#   make dashboard   serve the dashboard and open it in the browser
#   make test        run every test
#   make api         serve the detector to programs, over HTTP at port 8867 (ARGS="--port 80")
#   make pipeline    run notebooks 01-05 on the embedded sample   (ARGS="--profile full --resume")
#   make lab         open the notebooks in JupyterLab
#   make lock        compile requirements.lock from pyproject.toml (ARGS=--upgrade for newer pins)
#   make test-colab  run unit tests and notebooks with the versions that Google Colab ships
#
# Options: PYTHON=python3.12 (which Python makes .venv), PORT=8866 (dashboard), ARGS (passed on).

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
            $$p -c '$(SUPPORTED)' 2>/dev/null && { echo $$p; exit; }; done; echo python3)
PORT   ?= 8866
ARGS   ?=
VENV   ?= .venv
BIN    := $(VENV)/bin

# TensorFlow prints errors only: its start-up notes drown the first lines a reader should see.
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: dashboard api test pipeline lab lock test-colab help

dashboard: $(VENV)/.installed
	$(BIN)/python -m voila notebooks/dashboard.ipynb --port=$(PORT) $(ARGS)

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(ARGS)

api: $(VENV)/.installed
	$(BIN)/python -m cifake_lib.api $(ARGS)

pipeline: $(VENV)/.installed
	$(BIN)/python -m cifake_lib.pipeline $(ARGS)

# Without the setting, an upload above 10 MB in the dashboard vanishes without a word.
lab: $(VENV)/.installed
	$(BIN)/python -m jupyterlab --notebook-dir=notebooks \
	  "--ServerApp.tornado_settings={'websocket_max_message_size': 536870912}" $(ARGS)

# The lock holds for Linux, macOS and Windows, and names no package index.
lock: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile pyproject.toml --extra app --extra api --extra bulk --extra test --universal \
	  --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" \
	  --quiet --output-file requirements.lock $(ARGS)

test-colab: .venv-colab/.installed
	CIFAKE_COLAB=1 .venv-colab/bin/python -m pytest tests/unit tests/pipeline/test_colab.py $(ARGS)

help:
	@sed -n 's/^#   //p' Makefile

# The stamp file is what spares second runs the installation.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(call create_environment,$(VENV))
	$(BIN)/python -m pip install -r requirements.lock -e .
	@touch $@

.venv-colab/.installed: tests/colab-versions.txt pyproject.toml
	$(call create_environment,.venv-colab)
	.venv-colab/bin/python -m pip install -c tests/colab-versions.txt -e .[test]
	@touch $@

define create_environment
@$(PYTHON) -c '$(SUPPORTED)' || { \
  echo "Python 3.11, 3.12 or 3.13 is needed; '$(PYTHON)' is $$($(PYTHON) -V 2>&1)."; \
  echo "Install one and name it, for example: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
@echo "Setting up $(1): about two minutes and 3 GB, once."
$(PYTHON) -m venv $(1)
endef
