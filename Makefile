# Set-up and checks. Everything here works from a clone on Debian 12 with python3, python3-venv and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# mosquitto lies in /usr/sbin, which is not on every user's path.
export PATH := $(PATH):/usr/sbin

# What the tests need besides Python packages. Each is "Debian package:a program it brings".
DEBIAN_NEEDS := mosquitto:mosquitto mosquitto-clients:mosquitto_sub systemd:systemd-analyze \
  nodejs:node npm:npm e2fsprogs:mkfs.ext4 xfsprogs:mkfs.xfs \
  rabbitmq-server:rabbitmqctl nats-server:nats-server softhsm2:softhsm2-util \
  pcscd:pcscd vsmartcard-vpcd:vpcd-config iproute2:ip gpsd:gpsd gpsd-clients:gpsfake faketime:faketime

# Every file's hash is checked. What has no wheel (pyDes) is built with locked tools: no other is fetched on the way.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --use-pep517

.PHONY: setup demo test check fast bench peers crash fuzz needs node docs lock interop simulate-budgets leases clean
.DEFAULT_GOAL := setup

setup: $(VENV)/.runtime

demo: setup
	$(BIN)/roamkey demo

# Most of the tests wait for processes, brokers and time: two at once take little more than half as long as one.
WORKERS ?= 2
test: needs node check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
	@# What is missing for the foreign ISO 15118 stack is said loudly, and is no failure. `make interop` runs all of it.
	@if sh .ci/interop-needs; then \
	  $(MAKE) --no-print-directory interop CASES=50 ONLY="fragments or installed_through or revoked"; fi

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/contracts/test_architecture.py

# The quick tests of what decides, records and starts; `make test` runs all of them and the rest.
FAST := tests/core tests/journal tests/space tests/policy_bundle tests/chargers tests/contracts tests/service
fast: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile $(FAST)

# Kills, cut links, full disks, power cuts. make crash SEED=1 KILLS=1000 RECORDS=100000 CUTS=1000 FILLS=30 ONLY=kills,links;
# LONG=1 does ten times as much. Mounting needs root, FUSE and loop devices: what cannot be run here is said, and with
# REQUIRED=1 it fails. The result is also build/crash.json.
CRASH := $(SEED:%=--seed %) $(KILLS:%=--kills %) $(RECORDS:%=--records %) $(CUTS:%=--cuts %) $(FILLS:%=--fills %) \
  $(ONLY:%=--only %) $(if $(LONG),--long) $(if $(REQUIRED),--required)
crash: needs $(VENV)/.dev
	$(BIN)/python -m tests.crash $(CRASH)

# Every parser of foreign bytes, guided by coverage, 30 s each: make fuzz SECONDS=600 ONLY=certificate,batch (RUNS=10000000)
FUZZ := $(SECONDS:%=--seconds %) $(RUNS:%=--runs %) $(ONLY:%=--only %) $(SEED:%=--seed %)
fuzz: $(VENV)/.dev $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz.campaign $(FUZZ)

$(VENV)/.fuzz: tests/fuzz/fuzz.lock
	$(PIP_INSTALL) --require-hashes --only-binary :all: -r tests/fuzz/fuzz.lock
	@touch $@

# A month of 100 and of 10,000 devices with budgets: leases beside a cached balance and a static split. Tables, and
# build/budgets.json with plots beside it. Fewer: make simulate-budgets DEVICES=100 SEEDS=3
simulate-budgets: $(VENV)/.dev
	$(BIN)/python -m tests.budgets.simulation $(DEVICES:%=--devices %) $(SEEDS:%=--seeds %)

# The lives of leases, many and long: crashes, lost and doubled messages, jumping clocks, copies, a restored backend.
LIVES ?= 2000
leases: $(VENV)/.dev
	ROAMKEY_LEASE_LIVES=$(LIVES) ROAMKEY_LEASE_STEPS=80 $(BIN)/python -m pytest -q --timeout 0 \
	  tests/budgets/test_lease_machine.py

# The tables of docs/wire.md, docs/asyncapi.yaml, docs/schemas and docs/schemas/fleet, anew from the models.
docs: $(VENV)/.dev
	$(BIN)/python -m tests.wire_documents.write_wire_documents
	$(BIN)/python -m tests.policy_bundle.write_policy_schemas

# Wallet and verifier against the foreign stack `iso15118` with its Java codec, in an environment of its own and a
# throw-away network namespace. Fewer random fragments than 1,000 of each kind: make interop CASES=50
interop: $(VENV)/.dev
	@sh .ci/interop-needs
	$(MAKE) --no-print-directory .oracle/.made
	ROAMKEY_INTEROP=required $(CASES:%=ROAMKEY_INTEROP_CASES=%) $(BIN)/python -m pytest -p no:cacheprovider \
	  tests/contract_wallet/interop_fragments.py tests/contract_wallet/interop_sessions.py $(if $(ONLY),-k "$(ONLY)")

.oracle/.made: tests/contract_wallet/oracle.lock
	$(PYTHON) -m venv --clear .oracle
	.oracle/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
	  --require-hashes -r tests/contract_wallet/oracle.lock
	@touch $@

# The JavaScript packages of the slow tests: AsyncAPI's parser, and the example receiver's MQTT library.
NODE_ROOMS := .ci/asyncapi docs/examples/node-receiver
node: $(NODE_ROOMS:%=%/node_modules/.package-lock.json)

%/node_modules/.package-lock.json: %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund
	@touch $@

# The policy engines of others, in an environment of their own: 90 MB that nobody else needs.
peers: .peers/.made

.peers/.made: tests/benchmarks/peers/peers.lock
	$(PYTHON) -m venv --clear .peers
	.peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
	  --require-hashes -r tests/benchmarks/peers/peers.lock
	@touch $@

# One of them: make bench NAME=drain (make bench LIST=1 tells the names). Small and once: make bench QUICK=1
# All of them, and `decisions`, need the other policy engines; `contracts` the foreign ISO 15118 stack's codec, or its
# row says that it was not run.
bench: needs $(VENV)/.dev $(if $(filter-out decisions,$(NAME)),,.peers/.made)
	$(if $(LIST)$(filter-out contracts,$(NAME)),,@if sh .ci/interop-needs; then \
	  $(MAKE) --no-print-directory .oracle/.made; fi)
	$(BIN)/python -m tests.benchmarks.runner $(if $(NAME),--only $(NAME)) $(if $(QUICK),--quick) $(if $(LIST),--list)

needs:
	@sh .ci/debian-needs $(DEBIAN_NEEDS)

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "roamkey needs Python 3.11 or newer; say which with: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.build: $(VENV)/.made requirements-build.lock
	$(PIP_INSTALL) --require-hashes --only-binary :all: -r requirements-build.lock
	@touch $@

$(VENV)/.runtime: $(VENV)/.build requirements.lock pyproject.toml
	$(PIP_INSTALL) --require-hashes -r requirements.lock
	$(PIP_INSTALL) --no-index --editable .
	@# The service may not write here: without this every start would compile all of it again.
	$(BIN)/python -m compileall -q agent drivers sync firmware_profiles
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

# The lock files hold names, versions and hashes, and no registry's address. Newer releases: make lock UPGRADE=--upgrade
LOCK := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
  --generate-hashes --no-annotate $(UPGRADE)
lock: $(VENV)/.dev
	$(LOCK) pyproject.toml --extra demo --extra hsm --group dev --output-file requirements-dev.lock
	$(LOCK) pyproject.toml --extra demo --constraint requirements-dev.lock --output-file requirements.lock
	$(LOCK) --group build --constraint requirements-dev.lock --output-file requirements-build.lock

clean:
	rm -rf $(VENV) .oracle .peers build dist
