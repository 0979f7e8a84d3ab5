# One entry point. Everything is installed into .venv; once it is there, no target needs the network.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# What the compiled module is made from.
COMPILED := setup.py rmapfast/_core.pyx $(wildcard csrc/*.c csrc/*.h)
BUILD_TOOLS := "setuptools>=77" "Cython>=3.1" "numpy>=2.0"

run: $(VENV)/built
	$(BIN)/rmapfast reclaim

# tests/c needs no Python; valgrind runs it a second time where it is installed (CI installs it).
test: $(VENV)/test-tools
	$(MAKE) --no-print-directory -C csrc test
	if command -v valgrind >/dev/null; then $(MAKE) --no-print-directory -C csrc valgrind; else echo "valgrind is not installed: C tests ran without it"; fi
	$(BIN)/python -m pytest

bench: $(VENV)/test-tools
	$(BIN)/python -m pytest bench --benchmark-enable --benchmark-disable-gc --benchmark-group-by=group --benchmark-columns=median,iqr,rounds -s

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
		$(BIN)/python -m pytest tests -k "twins or doors or reclaim"

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

$(VENV)/lint-tools: $(VENV)/built
	test -e $@ || $(PIP) install --no-build-isolation -e ".[lint]"
	touch $@

.PHONY: run test bench validate fit studies lint sanitize clean
