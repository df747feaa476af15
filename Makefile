# `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint tiny clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with all that the tests need

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[sweep,dev]'
	@touch $@

demo: setup ## Ten runs of seven methods on 200 questions, and a report: minutes on a CPU
	$(BIN)/python scripts/eval.py experiment=demo
	$(BIN)/python scripts/report.py experiment=demo

test: setup ## Run the tests on the CPU
	$(BIN)/python -m pytest -n 2 --dist loadfile

# a worker begins with neighbours, which share runs
test-all: test ## Also every table of the papers in miniature: half an hour more
	$(BIN)/python -m pytest -m slow -n 2 --dist worksteal

lint: setup ## Style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

TRAIN := $(BIN)/python scripts/train.py
TRAINED := outputs/train
# text alone: which letter stands for an option
LETTERS := data.captions=0 data.naming=2 data.retention=[0.0005,0.0005] data.held_out_retention=[0.0005] \
	module.lr=1e-3 module.warmup=50 trainer.max_steps=400
CAPTIONS := data.open_ended=0 data.lettered=0 data.naming=1 data.size=32 module.lr=2e-3 trainer.max_steps=600
# up to now inputs were short, and long ones are unlike them
LONG := data.retention=[0.1,1.0] data.size=4
# a place's second word is the last thing to be learnt
SIDES := data.kinds=[colour,shape,place,place,place,side,side,side,after,after,last]
# what BLIP-2's own training would have taught: without it all texts become alike, and are aligned with anything
MATCHING := module.weight=0 module.lr=2e-3 trainer.max_steps=3000

tiny: setup ## Train checkpoints/ again: four hours on a CPU; a stopped one goes on
	$(TRAIN) module=siglip name=tiny_siglip
	$(TRAIN) module=captioner name=tiny_letters module.siglip=$(TRAINED)/tiny_siglip/model $(LETTERS)
	$(TRAIN) module=answerer name=tiny_captions module.backbone.checkpoint=$(TRAINED)/tiny_letters/model $(CAPTIONS)
	$(TRAIN) module=answerer name=tiny_answers module.backbone.checkpoint=$(TRAINED)/tiny_captions/model
	$(TRAIN) module=answerer name=tiny_long module.backbone.checkpoint=$(TRAINED)/tiny_answers/model $(LONG) trainer.max_steps=2500
	$(TRAIN) module=answerer name=tiny_sides module.backbone.checkpoint=$(TRAINED)/tiny_long/model $(LONG) $(SIDES) trainer.max_steps=1400
	$(TRAIN) module=answerer name=tiny module.backbone.checkpoint=$(TRAINED)/tiny_sides/model $(LONG) $(SIDES) trainer.max_steps=1000
	$(TRAIN) module=relevance name=tiny_kvtp module.checkpoint=$(TRAINED)/tiny_siglip/model
	$(TRAIN) module=qformer name=tiny_qformer_itm module.new.siglip=$(TRAINED)/tiny_siglip/model $(MATCHING)
	$(TRAIN) module=qformer name=tiny_qformer module.checkpoint=$(TRAINED)/tiny_qformer_itm/model trainer.max_steps=600
	for model in tiny_siglip tiny tiny_kvtp tiny_qformer_itm tiny_qformer; do test -f $(TRAINED)/$$model/model/config.json || exit 1; done
	for model in tiny_siglip tiny tiny_kvtp tiny_qformer_itm tiny_qformer; do \
		rm -rf checkpoints/$$model && cp -r $(TRAINED)/$$model/model checkpoints/$$model || exit 1; done

clean: ## Remove caches; .venv and outputs stay
	rm -rf .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './.venv/*' -exec rm -rf {} +
