# One entry point. Everything is installed into .venv; once it is there, no target needs the network.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# What the compiled module is made from.
COMPILED := setup.py rmapfast/_core.pyx rmapfast/_csrc.pxd $(wildcard csrc/*.c csrc/*.h csrc/*.def)
BUILD_TOOLS := "setuptools>=77" "Cython>=3.1" "numpy>=2.0"

run: $(VENV)/built
	$(BIN)/rmapfast reclaim

# tests/c needs no Python; valgrind runs it a second time where it is installed (CI installs it).
test: $(VENV)/test-tools
	$(MAKE) --no-print-directory -C csrc test
	if command -v valgrind >/dev/null; then $(MAKE) --no-print-directory -C csrc valgrind; else echo "valgrind is not installed: C tests ran without it"; fi
	$(BIN)/python -m pytest

# What pytest is told to run, as in BENCH="bench/test_peers.py -k numpy".
BENCH ?= bench
BENCH_JSON ?= bench/results.json
RUN_BENCH := $(BIN)/python -m pytest --benchmark-enable --benchmark-disable-gc --benchmark-quiet

bench: $(VENV)/bench-tools
	$(RUN_BENCH) $(BENCH)

bench-json: $(VENV)/bench-tools
	$(RUN_BENCH) $(BENCH) --benchmark-json=$(BENCH_JSON)

# A run now against a saved one, BASE=file.json.
bench-compare: bench-json
	$(BIN)/python bench/compare.py $(BASE) $(BENCH_JSON)

# Every measured row against the committed cost vectors: writes docs/validation.md.
validate: $(VENV)/test-tools
	$(BIN)/python -m validation.page

# The cost vectors anew, from the measured rows.
fit: $(VENV)/test-tools
	$(BIN)/python -m validation.fit

# The case studies' pages, figures and index in docs/case-studies, each by its script.
studies: $(VENV)/test-tools
	set -e; for study in docs/case-studies/[a-z]*.py; do $(BIN)/python $$study; done

lint: $(VENV)/lint-tools
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

# The C tests and the twin tests under the address and undefined-behaviour sanitizers.
sanitize: $(VENV)/test-tools
	$(MAKE) -C csrc BUILD=build-sanitize CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined" test
	RMAPFAST_SANITIZE=1 $(BIN)/python setup.py --quiet build_ext --build-lib build/sanitize --build-temp build/sanitize-temp
	cp -r rmapfast/*.py build/sanitize/rmapfast/
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" PYTHONPATH=build/sanitize \
		$(BIN)/python -m pytest tests -k "twins or calls or reclaim"

clean:
	rm -rf $(VENV) build rmapfast/*.so rmapfast/_core.c csrc/build csrc/build-sanitize

$(VENV)/built: $(COMPILED) pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -e $(VENV)/build-tools || { $(PIP) install $(BUILD_TOOLS) && touch $(VENV)/build-tools; }
	$(PIP) install --no-build-isolation --no-deps -e .
	touch $@

$(VENV)/test-tools: $(VENV)/built
	test -e $@ || $(PIP) install --no-build-isolation -e ".[test]"
	touch $@

$(VENV)/bench-tools: $(VENV)/test-tools
	test -e $@ || $(PIP) install --no-build-isolation -e ".[bench]"
	touch $@

$(VENV)/lint-tools: $(VENV)/built
	test -e $@ || $(PIP) install --no-build-isolation -e ".[lint]"
	touch $@

.PHONY: run test bench bench-json bench-compare validate fit studies lint sanitize clean
