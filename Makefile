# One command each: make demo, make test, make check, make dev.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export NO_ALBUMENTATIONS_UPDATE = 1

.PHONY: demo test check dev links bench clean

$(VENV)/.base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchattacks==3.5.1
	touch $@

# foolbox asks for a newer requests than torchattacks says it needs, and torchattacks imports none: hence --no-warn-conflicts.
# torchvision and timm are tested as model sources only. Their wheels ask for a CUDA build of torch, hence --no-deps. medmnistc, beside
# which MedMNIST-C is tested, pins an old scikit-image.
$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts -c constraints.txt -e '.[test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.28.0 timm==1.0.31 medmnistc==0.1.0 medmnist==3.0.1
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.base
	$(BIN)/robustbench-rad demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist worksteal
	$(BIN)/python -m pytest -q --doctest-modules --pyargs robustbench_rad

dev: $(VENV)/.dev links

# Type checkers and editors do not run import hooks: git-ignored links show them the mapped folders.
links:
	for d in attacks shifts reports; do ln -sfn ../$$d robustbench_rad/$$d; done

check: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build dist *.egg-info robustbench_rad/attacks robustbench_rad/shifts robustbench_rad/reports
