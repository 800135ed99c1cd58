# make quickstart: install into .venv, train the four methods on the embedded demo, print their table
# make test:       install into .venv, run the fast tests (make test-slow: the slow ones)
# make test-versions: run most fast tests with the lowest and the newest versions, in .venv/lowest and .venv/newest
#                  (14 GB); make test-transformers: the core of it, with those of transformers alone
# make soak:       install into .venv, kill runs at 60 random moments, start 16 processes on one grid, and the other
#                  tests that are too long for CI
# make audit:      check the pinned packages for known vulnerabilities (pip-audit)
# make benchmark:  install into .venv, time a training step of each method, its lower bound and other libraries
#                  (ARGS="--size bert-base")
# make gpu-check:  install into .venv, check the attention, training and speed on this machine's GPU (8 minutes)
# make docs:       install into .venv, execute the notebook and write the site of the docs to docs/_build/html
# make reproduce:  install into .venv, plan and run the tables of PROFILE (smoke, cpu, paper or published) with ARGS, report

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
PROFILE ?= smoke

.PHONY: setup quickstart test test-slow test-versions test-lowest test-newest test-transformers soak audit benchmark \
	gpu-check docs reproduce

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'error: spt needs Python 3.11 or newer')"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

quickstart: setup
	$(RUN) -m spt.train --multirun task=demo_pair,demo_choice,demo_ner model=demo \
		method=fine_tuning,prefix_tuning,spt,spt_sl \
		trainer.num_train_epochs=15 output_dir=runs/demo
	$(RUN) -m spt.runs output_dir=runs/demo

test: setup
	$(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: setup
	$(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "slow and not soak"

CORE_TESTS := tests/modeling/test_golden.py tests/modeling/test_fixtures.py tests/modeling/test_encoder_families.py \
	tests/modeling/test_prefix.py

test-versions: test-lowest test-newest

test-lowest test-newest: test-%: tests/versions/%.txt
	$(PYTHON) -m venv $(VENV)/$*
	$(VENV)/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $< pytest pytest-xdist hypothesis psutil
	$(VENV)/$*/bin/python -m pytest -n auto --dist loadfile tests/modeling tests/adapters tests/tasks tests/report \
		tests/test_console.py tests/training/test_numerics.py tests/training/test_resume.py tests/training/test_loop.py

test-transformers: setup
	for version in lowest newest; do \
		packages=$(VENV)/transformers-$$version && \
		$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --upgrade --target $$packages \
			"$$(grep ^transformers== tests/versions/$$version.txt)" && \
		OMP_NUM_THREADS=1 PYTHONPATH=$$packages $(RUN) -m pytest -n auto --dist worksteal $(CORE_TESTS) -k "not compiled" || exit 1; \
	done

soak: setup
	$(RUN) -m pytest -n auto -m soak -rP

audit:
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement requirements.txt

benchmark: setup
	$(RUN) -m scripts.benchmark $(ARGS)

gpu-check: setup
	$(RUN) -m scripts.gpu_check $(ARGS)

docs: setup
	$(RUN) -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	PYTHONPATH=$(CURDIR) $(RUN) -m sphinx --fail-on-warning --keep-going -b html docs docs/_build/html

reproduce: setup
	$(RUN) -m spt.reproduce profile=$(PROFILE) $(ARGS)
