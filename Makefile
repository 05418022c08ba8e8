# Needs Python 3.11 or newer and make; everything else comes with `make venv`.
PYTHON ?= python3
VENV ?= .venv
UV ?= uv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
CARGO ?= cargo
NATIVE := streams/kernels/native
NATIVE_INSTALLED := $(VENV)/native-installed
#: The native kernel is built for checks and tests where there is a Rust compiler. Nothing needs it.
HAS_CARGO := $(shell $(CARGO) --version 2>/dev/null)
NATIVE_IF_POSSIBLE := $(if $(HAS_CARGO),$(NATIVE_INSTALLED),without-native)
#: Seconds of new inputs for each target of the native kernels' fuzzers.
FUZZ_SECONDS ?= 10
#: The layers that need no broker, no network and no second process.
PURE_TESTS := tests/kernels tests/machines tests/schemas tests/tidy tests/fuzz tests/benchmarks tests/native
#: Test files that run at the same time, each worker with a broker of its own; 0: all in one process, as a debugger wants.
WORKERS ?= 2

.PHONY: help venv demo test lint check test-pure pure-tests native native-check native-lint native-test native-fuzz \
	without-native bench lock clean

help:
	@echo "make venv                 install everything into $(VENV), once"
	@echo "make demo ARGS=...        run the demonstration"
	@echo "make check                lint, format, types, imports, pure tests"
	@echo "make test ARGS=...        all tests, with a real broker; WORKERS=0 runs them one after the other"
	@echo "make native               build the native kernels; needs Rust's cargo"
	@echo "make native-check         their own checks: format, lints, and under a sanitizer tests and fuzzers (FUZZ_SECONDS)"
	@echo "make bench NAME= ARGS=    one benchmark of benchmarks/"
	@echo "make lock                 pin the dependencies of pyproject.toml again"
	@echo "make clean                remove what was built, but no downloads"

venv: $(INSTALLED)

# Build isolation would fetch setuptools unpinned; the lock pins it as well. The lock is complete and says more than the
# packages do (tool.uv in pyproject.toml): hence no dependencies.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: name a newer one with make PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: venv
	$(BIN)/isthmus demo $(ARGS)

# The lock names the build tool; cargo's own lock names the libraries.
native: $(NATIVE_INSTALLED)

$(NATIVE_INSTALLED): $(INSTALLED) $(NATIVE)/Cargo.toml $(NATIVE)/Cargo.lock $(NATIVE)/pyproject.toml $(shell find $(NATIVE)/src -name '*.rs')
	@$(CARGO) --version >/dev/null 2>&1 || { echo "cargo is missing: install Rust 1.89 or newer (rustup.rs), or go without" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(NATIVE)/requirements.lock
	cd $(NATIVE) && VIRTUAL_ENV=$(abspath $(VENV)) $(abspath $(BIN))/maturin develop --release --locked --quiet
	@touch $@

# Sanitizers are unstable flags, which a stable rustc takes when it is told so; build scripts go without, hence the target.
SANITIZED = RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address $(1)" $(CARGO)
RUST_TARGET = $(shell rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz passes (llvm.org/docs/LibFuzzer.html); it would be one more thing to install.
COVERAGE := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares

native-check: native-lint native-test native-fuzz

native-lint:
	cd $(NATIVE) && $(CARGO) fmt --check && $(CARGO) clippy --release --locked --quiet --features python -- -D warnings
	cd $(NATIVE)/fuzz && $(CARGO) fmt --check

native-test:
	cd $(NATIVE) && $(call SANITIZED,) test --locked --quiet --lib --target $(RUST_TARGET)

# The inputs kept in corpus/, then new ones; one that fails is left in target/.
native-fuzz:
	cd $(NATIVE)/fuzz && $(call SANITIZED,$(COVERAGE)) build --release --locked --quiet --target $(RUST_TARGET)
	cd $(NATIVE)/fuzz && for name in modulus points; do mkdir -p target/found/$$name; \
		target/$(RUST_TARGET)/release/$$name -max_total_time=$(FUZZ_SECONDS) -max_len=3000 -verbosity=0 -print_funcs=0 \
			-artifact_prefix=target/$$name- target/found/$$name corpus/$$name || exit 1; done

without-native:
	@echo "there is no cargo here: the native kernels are neither built nor tested; gmpy2 and libsodium compute"

test: venv $(NATIVE_IF_POSSIBLE)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

# With -j2 the native kernels are built and checked meanwhile.
lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test-pure $(if $(HAS_CARGO),native-check)

test-pure: venv $(NATIVE_IF_POSSIBLE)
	$(BIN)/python -m pytest -n $(WORKERS) --quiet $(wildcard $(PURE_TESTS))

pure-tests:
	@echo $(wildcard $(PURE_TESTS))

bench: venv
	@test -n "$(NAME)" || { echo "say which: make bench NAME=... ($(basename $(notdir $(wildcard benchmarks/[a-z]*.py))))" >&2; exit 2; }
	$(BIN)/python -m benchmarks $(NAME) $(ARGS)

# uv resolves once for all supported Python versions and platforms, and keeps the pins that still fit; `rm requirements.lock`
# first to renew them all.
lock:
	-cp requirements.lock requirements.lock.new
	$(UV) pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links --quiet \
		--python-version 3.11 --universal --no-header -o requirements.lock.new
	{ echo "# Every dependency of the project and of its tests, pinned with hashes. Made by: make lock"; \
		cat requirements.lock.new; } > requirements.lock
	rm requirements.lock.new

clean:
	rm -rf $(NATIVE)/target build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .isthmus
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
