# One entry point. Everything is installed into .venv; once it is there, no target needs the network.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# What the compiled module is made from.
COMPILED := setup.py $(wildcard rmapfast/*.pyx rmapfast/*.pxi rmapfast/*.pxd csrc/*.c csrc/*.h csrc/*.def rmapfast/include/*.h)
# Tools find each other there: cython-lint calls pycodestyle, pyright is asked which Python it checks for.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# CI is a function of the commit: property-based tests draw the same examples each time (tests/conftest.py).
test test-shared dist: export HYPOTHESIS_PROFILE := ci
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
	$(BIN)/python -m bench.versus
	$(BIN)/python -m bench.end_to_end

bench-json: $(VENV)/bench-tools
	$(RUN_BENCH) $(BENCH) --benchmark-json=$(BENCH_JSON)

# This version against another one, BASE=commit: both take turns.
BASE ?= HEAD
bench-compare: $(VENV)/bench-tools
	$(BIN)/python -m bench.compare $(BASE)
	$(BIN)/python -m bench.end_to_end --against $(BASE)

# Every measured row against the committed cost vectors: writes docs/validation.md. With MACHINE=NAME the machine at hand is
# tried first (root).
validate: $(VENV)/test-tools
	$(if $(MACHINE),$(BIN)/python -m validation.machine "$(MACHINE)")
	$(BIN)/python -m validation.page

# Predictions for changes that are not merged: writes docs/forecasts.md.
forecasts: $(VENV)/test-tools
	$(BIN)/python -m validation.forecasts

# The cost vectors anew, from the measured rows.
fit: $(VENV)/test-tools
	$(BIN)/python -m validation.fit

# The case studies' pages, figures and index in docs/case-studies, each by its script.
studies: $(VENV)/test-tools
	set -e; for study in docs/case-studies/[a-z]*.py; do $(BIN)/python $$study; done

# The site, in build/docs: no network, a warning is an error, and every link of the built pages leads somewhere.
# DOCS_SIZE is the memory of each population in the pictures of the case studies; CI draws smaller ones.
DOCS_SIZE ?= 1GiB
docs: $(VENV)/docs-tools
	$(BIN)/python docs/pictures.py --size $(DOCS_SIZE)
	$(BIN)/python -m sphinx -W --keep-going -q -a -d build/docs-cache docs build/docs
	$(BIN)/python docs/links.py build/docs

# The notebooks of examples/, executed: build/notebooks holds them with what they show.
notebooks: $(VENV)/notebook-tools
	mkdir -p build/notebooks
	for notebook in examples/notebooks/*.py; do $(BIN)/jupytext --quiet --to ipynb --execute \
		--output "build/notebooks/$$(basename $$notebook .py).ipynb" $$notebook || exit 1; done

# The man page and the completion for shells, from the parser of the command line.
man: $(VENV)/shell-tools
	mkdir -p build/man
	$(BIN)/argparse-manpage --module rmapfast.cli --function parser --prog rmapfast --project-name rmapfast \
		--manual-title "rmapfast" --description "simulate how Linux unmaps large folios" \
		--version "$$($(BIN)/python -c 'import rmapfast; print(rmapfast.__version__)')" --output build/man/rmapfast.1

completion: $(VENV)/shell-tools
	mkdir -p build/completion
	$(BIN)/shtab --shell=bash --error-unimportable --prog rmapfast rmapfast.cli.parser > build/completion/rmapfast.bash
	$(BIN)/shtab --shell=zsh --error-unimportable --prog rmapfast rmapfast.cli.parser > build/completion/_rmapfast
	$(BIN)/shtab --shell=tcsh --error-unimportable --prog rmapfast rmapfast.cli.parser > build/completion/rmapfast.tcsh

# Style, types, and the types of the compiled module against what it holds.
lint: $(VENV)/lint-tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/cython-lint $(wildcard rmapfast/*.pyx rmapfast/*.pxi rmapfast/*.pxd)
	$(BIN)/clang-format --dry-run --Werror $(wildcard csrc/*.c csrc/*.h rmapfast/include/*.h tests/c/*.c tests/c/*.h)
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest rmapfast._core --mypy-config-file pyproject.toml --allowlist tests/stubtest-allowlist.txt

# What of the tests needs the full recorded data: RMAPFAST_SHARED names its folder, ../shared if it does not.
test-shared: $(VENV)/test-tools
	$(BIN)/python -m pytest -m shared

# A source distribution, a wheel made from it alone (on Linux auditwheel makes it one that older systems take too), and tests
# in a clean environment and outside the tree: what both hold, and a part of the suite, as the source distribution has it,
# against the installed wheel. Needs the network.
OUTSIDE := test_distribution test_typing test_arch test_cost test_conformance test_population test_twins
dist: $(VENV)/dist-tools
	rm -rf build/dist && mkdir -p build/dist/source build/dist/outside
	$(BIN)/python -m build --outdir build/dist .
	tar -xzf build/dist/rmapfast-*.tar.gz --strip-components=1 -C build/dist/source
	! git rev-parse 2>/dev/null || git ls-files > build/dist/tracked
	test "$$(uname -s)" != Linux || { auditwheel repair --wheel-dir build/dist/repaired build/dist/*.whl && \
		mv build/dist/repaired/*.whl build/dist && rm build/dist/*-linux_*.whl; }
	$(PYTHON) -m venv build/dist/venv
	build/dist/venv/bin/python -m pip --quiet --disable-pip-version-check install "$$(echo build/dist/*.whl)[test]"
	cp -r $(addprefix build/dist/source/,tests docs examples validation pyproject.toml) build/dist/outside
	cd build/dist/outside && RMAPFAST_DIST=.. RMAPFAST_UNDER_TEST=../venv RMAPFAST_SHARED= \
		../venv/bin/python -m pytest $(OUTSIDE:%=tests/%.py)

# The lanes that hunt (docs/reliability.md). Each runs the same cases each time, or others for FUZZ_S seconds.
# The C lane runs as CI builds it, under the sanitizers, and with libFuzzer where clang has it (Debian: clang and
# libclang-rt-dev). Clang's own warnings are not asked for.
FUZZ_FIRST := $(if $(FUZZ_S),$(shell od -An -N5 -tu8 /dev/urandom | tr -d ' '),1)
SANITIZED := BUILD=build-sanitize CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined"
WITH_LIBFUZZER := BUILD=build-libfuzzer CC=clang WERROR=-w \
	CFLAGS="-O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
fuzz:
	$(MAKE) --no-print-directory -C csrc fuzz CASES=$(if $(FUZZ_S),$(FUZZ_S)s,400000) FIRST=$(FUZZ_FIRST)
	$(MAKE) --no-print-directory -C csrc $(SANITIZED) fuzz CASES=$(if $(FUZZ_S),$(FUZZ_S)s,60000) FIRST=$(FUZZ_FIRST)
	if echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | clang -x c - -fsanitize=fuzzer -o /dev/null 2>/dev/null; then \
		$(MAKE) --no-print-directory -C csrc $(WITH_LIBFUZZER) libfuzzer $(if $(FUZZ_S),RUNS=-max_total_time=$(FUZZ_S)); \
	else echo "clang with libFuzzer is not installed: make fuzz ran without it"; fi

fuzz-files: $(VENV)/test-tools
	$(BIN)/python tests/fuzz_files.py

fuzz-kill: $(VENV)/test-tools
	$(BIN)/python tests/fuzz_kill.py
	$(BIN)/python tests/crash_states.py

# Streams with 1, 2, 4 and 8 threads under the thread sanitizer, and the memory that threads share.
tsan:
	$(MAKE) --no-print-directory -C csrc BUILD=build-tsan CFLAGS="-O1 -g -fsanitize=thread" streams
	$(MAKE) --no-print-directory -C csrc BUILD=build-tsan CFLAGS="-O1 -g -fsanitize=thread" test TESTS=build-tsan/test_arena

# Faults planted in csrc one by one, and a table of which check notices which. MUTANTS="3 17" tries two of them.
# Without that also faults of the kinds that the lanes hunt, and after how many cases a lane finds each.
mutants: $(VENV)/test-tools
	$(BIN)/python tests/mutants.py $(MUTANTS)
	$(if $(MUTANTS),,$(BIN)/python tests/planted.py)

fuzz-twins: $(VENV)/test-tools
	$(BIN)/python tests/fuzz_twins.py

# What takes longer than CI's lane may. FUZZ_S=3600 gives each lane an hour.
ci-full: sanitize tsan fuzz fuzz-twins fuzz-files fuzz-kill mutants notebooks

# The C tests and the twin tests under the address and undefined-behaviour sanitizers, which need libstdc++ at the start if a
# module that is written in C++ (of matplotlib) is to raise an exception later.
sanitize: $(VENV)/test-tools
	$(MAKE) -C csrc $(SANITIZED) test
	RMAPFAST_SANITIZE=1 $(BIN)/python setup.py --quiet build_ext --build-lib build/sanitize --build-temp build/sanitize-temp
	find build/sanitize -name '*.py' -delete
	find rmapfast -name '*.py' -o -name '*.toml' -o -name '*.h' -o -name '*.json' | xargs cp --parents -t build/sanitize
	ASAN_OPTIONS=detect_leaks=0 RMAPFAST_UNDER_TEST=build/sanitize \
		LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so.6)" \
		$(BIN)/python -m pytest -o "pythonpath=build/sanitize ." tests -k "twins or calls or reclaim or hostile_arrays"

clean:
	rm -rf $(VENV) build rmapfast/*.so rmapfast/_core.c csrc/build csrc/build-sanitize csrc/build-libfuzzer csrc/build-tsan

$(VENV)/built: $(COMPILED) pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -e $(VENV)/build-tools || { $(PIP) install $(BUILD_TOOLS) && touch $(VENV)/build-tools; }
	$(PIP) install --no-build-isolation --no-deps -e .
	touch $@

# pyright fetches its program when it first runs.
$(VENV)/test-tools: $(VENV)/built
	test -e $@ || $(PIP) install --no-build-isolation -e ".[test]"
	test -e $@ || ! command -v node >/dev/null || $(BIN)/pyright --version
	touch $@

$(VENV)/docs-tools: $(VENV)/built
	test -e $@ || $(PIP) install --no-build-isolation -e ".[docs]"
	touch $@

$(VENV)/bench-tools: $(VENV)/test-tools
	test -e $@ || $(PIP) install --no-build-isolation -e ".[bench]"
	touch $@

$(VENV)/lint-tools: $(VENV)/test-tools
	test -e $@ || $(PIP) install --no-build-isolation -e ".[lint]"
	touch $@

$(VENV)/notebook-tools: $(VENV)/test-tools
	test -e $@ || $(PIP) install --no-build-isolation -e ".[notebooks]"
	touch $@

$(VENV)/shell-tools: $(VENV)/built
	test -e $@ || $(PIP) install --no-build-isolation -e ".[shell]"
	touch $@

$(VENV)/dist-tools: $(VENV)/built
	test -e $@ || $(PIP) install --no-build-isolation -e ".[dist]"
	touch $@

.PHONY: run test test-shared bench bench-json bench-compare validate fit studies forecasts docs notebooks man completion lint dist fuzz fuzz-twins fuzz-files fuzz-kill tsan mutants ci-full sanitize clean
