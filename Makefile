# Needs a Python, make and git; tools/env finds the Python and installs the rest in .venv/.

.DEFAULT_GOAL := help
.PHONY: help demo example test test-all fuzz mutants check docs fixtures bench bench-repair clean distclean

JOBS ?= 2
TESTS ?= tests
ARGS ?=
WHEEL ?=
DATA ?= digits
OUT ?= build/example/$(DATA)
SECONDS ?= 3600
COUNT ?= 400
SEED ?=

pytest = -m pytest -n $(JOBS) --dist worksteal $(MARKS) $(ARGS)

help:
	@echo 'make demo       prune a small network and show what became of it'
	@echo 'make example    train, prune, retrain and strip a network on real handwriting (OUT=folder;'
	@echo '                DATA=fashion: on Fashion-MNIST, where it is installed)'
	@echo 'make test       run the tests'
	@echo 'make test-all   run those too that take up to an hour: random networks, every architecture'
	@echo 'make fuzz       run damaged files for an hour (SECONDS=60: a minute; SEED=number: those again)'
	@echo 'make mutants    plant faults in the core and count those that the tests catch (COUNT=400)'
	@echo 'make check      run ruff and mypy'
	@echo 'make docs       make the site of docs/ and of the code in build/site; warnings are errors'
	@echo 'make fixtures   train the bundled network again (ARGS=--check: and compare)'
	@echo 'make bench      measure against the peers; writes benchmarks/RESULTS.md (ARGS=--quick: a minute)'
	@echo 'make bench-repair  measure what a repair brings back; writes benchmarks/REPAIR.md (some hours)'
	@echo 'make clean      remove caches and builds (distclean: the environments too)'
	@echo
	@echo 'PYTHON=3.12              a path, a command or a version; by default Python 3.7 with'
	@echo '                         TensorFlow 1.15 where there is one, else python3'
	@echo 'make test WHEEL=1        test the installed wheel, not the checkout'
	@echo 'make test TESTS=tests/test_packaging.py ARGS="-k version"   run some of the tests'

demo:
	@python="$$(tools/env run)" && "$$python" fixtures/demo.py $(ARGS)

# Current TensorFlow has no Estimator; TensorFlow 1.15 stands on no Python but 3.7.
example:
	@python="$$(tools/env fixtures)" && script="$$("$$python" -c \
	'import sys; print("session" if sys.version_info >= (3, 8) else "estimator")')" && \
	PYTHONPATH=. "$$python" "examples/digits/$$script.py" "$(OUT)" --data $(DATA) $(ARGS)

ifneq ($(filter-out 0,$(WHEEL)),)
# From a folder outside the checkout, where only site-packages has a graphslim.
test:
	@python="$$(tools/env wheel)" && away="$$(mktemp -d)" && trap 'rm -rf "$$away"' EXIT && \
	cd "$$away" && env -u PYTHONPATH GRAPHSLIM_EXPECT_WHEEL=1 "$$python" $(pytest) \
	-c "$(CURDIR)/pyproject.toml" --rootdir "$(CURDIR)" $(foreach t,$(TESTS),"$(CURDIR)/$(t)")
else
test:
	@python="$$(tools/env run)" && "$$python" $(pytest) $(TESTS)
endif

# A later -m wins over that of pyproject.toml.
# Not in ARGS, which the command line would take away.
test-all: MARKS = -m "exhaustive or not exhaustive"
test-all: test

# What fails is kept in build/fuzz/, with the command that shows it again.
fuzz:
	@python="$$(tools/env fuzz)" && "$$python" tools/fuzz.py --seconds $(SECONDS) \
	$(if $(SEED),--seed $(SEED)) $(ARGS)

mutants:
	@python="$$(tools/env mutants)" && "$$python" tools/mutants.py --cover --count $(COUNT) $(ARGS)

check:
	@python="$$(tools/env check)" && "$$python" -m ruff check . && "$$python" -m mypy

docs:
	@python="$$(tools/env docs)" && "$$python" -m sphinx --fail-on-warning --keep-going --quiet \
	--builder html --doctree-dir build/doctrees $(ARGS) docs build/site && \
	echo "build/site/index.html"

fixtures:
	@python="$$(tools/env fixtures)" && "$$python" fixtures/train_digits.py $(ARGS)

# TensorFlow 1.15 takes part where there is a Python 3.7.
bench:
	@python="$$(tools/env bench)" && first="$$(PYTHON=3.7 tools/env run || true)" && \
	"$$python" -m benchmarks $${first:+--first "$$first"} $(ARGS)

bench-repair:
	@python="$$(tools/env bench)" && "$$python" -m benchmarks.repair $(ARGS)

clean:
	rm -rf build dist graphslim.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv
