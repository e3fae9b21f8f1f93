# rivulet: one file, not recursive. `make help` lists what it can do.
#
# MODE=release (default) | debug | asan (with ubsan) | tsan | cov | fuzz (clang; tests/fuzz/run builds it). Objects of each mode live in
# build/MODE/; the programs of release are linked to build/rivuletd and build/rivulet.

MAKEFLAGS += --no-builtin-rules # or make looks for a way to make the .d files, and finds one

MODE   ?= release
CC     ?= cc
PREFIX ?= /usr/local
B      := build/$(MODE)
GEN    := build/gen

# ---- flags

WARN  := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Werror
BASE  := -std=c17 -D_GNU_SOURCE -g -fno-common -fstack-protector-strong -fPIE -I. -Ibuild $(WARN)
LINK  := -pie -Wl,-z,relro,-z,now

FLAGS_release := -O2 -D_FORTIFY_SOURCE=3
FLAGS_debug   := -O0 -DRIVULET_ABORT_ON_CHECK
# gcc's flow warnings are wrong about instrumented code (its manual says so); release and debug builds keep them.
SANITIZED     := -O1 -fno-omit-frame-pointer -DRIVULET_ABORT_ON_CHECK -Wno-maybe-uninitialized -Wno-format-truncation -Wno-stringop-truncation
FLAGS_asan    := $(SANITIZED) -fsanitize=address,undefined -fno-sanitize-recover=all
FLAGS_tsan    := $(SANITIZED) -fsanitize=thread
FLAGS_cov     := -O0 --coverage
FLAGS_fuzz    := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -DRIVULET_ABORT_ON_CHECK
LINK_asan     := -fsanitize=address,undefined
LINK_tsan     := -fsanitize=thread
LINK_cov      := --coverage
LINK_fuzz     := -fsanitize=address,undefined
ifeq ($(MODE),fuzz)
CC := clang-14
endif

ifeq ($(filter $(MODE),release debug asan tsan cov fuzz),)
$(error MODE=$(MODE) is not one of release debug asan tsan cov fuzz)
endif

VERSION  := 0.1.0
CFLAGS   := $(BASE) $(FLAGS_$(MODE)) -DRIVULET_VERSION='"$(VERSION)"'
LDFLAGS  := $(LINK) $(LINK_$(MODE))
CODECS   := -lz -lsnappy -llz4 -lzstd -lisal
LIBS     := $(CODECS) -luv -lpthread

# ---- what there is

SCHEMAS      := $(wildcard protocol/schema/*.msg)
BASE_SRC     := $(wildcard base/*.c)
PROTOCOL_SRC := $(filter-out protocol/schemac.c,$(wildcard protocol/*.c))
BROKER_SRC   := $(filter-out broker/main.c,$(wildcard broker/*.c broker/*/*.c))
CLIENT_SRC   := $(wildcard client/*.c)
TOOLS_SRC    := $(wildcard tools/*.c)
BENCH_SRC    := $(wildcard tests/bench/*.c)
KIT_SRC      := $(filter-out tests/kit/failing_mem.c,$(wildcard tests/kit/*.c))
UNIT_SRC     := $(wildcard tests/unit/test_*.c)
WIRE_SRC     := $(wildcard tests/wire/test_*.c)
SIM_SRC      := $(wildcard tests/sim/test_*.c)
FUZZ_SRC     := $(wildcard tests/fuzz/fuzz_*.c)

# What is made, a line each; V=1 shows the commands.
Q   := $(if $(V),,@)
SAY := @echo ' '

objs = $(patsubst %.c,$(B)/%.o,$(1))
GEN_OBJ  := $(patsubst protocol/schema/%.msg,$(B)/gen/%.o,$(SCHEMAS)) $(if $(SCHEMAS),$(B)/gen/apis.o)
LOW_LIB  := $(B)/libbase.a $(B)/libprotocol.a
BROKER_LIB := $(if $(BROKER_SRC),$(B)/librivuletd.a)
CLIENT_LIB := $(if $(CLIENT_SRC),$(B)/librivulet.a)
KIT_LIB    := $(if $(KIT_SRC),$(B)/libkit.a)
PROGRAMS := $(if $(wildcard broker/main.c),$(B)/rivuletd) $(if $(wildcard tools/main.c),$(B)/rivulet)
TESTS    := $(patsubst %.c,$(B)/%,$(UNIT_SRC) $(WIRE_SRC) $(SIM_SRC))

.PHONY: all run test unit wire sim demo killloop tidy docs docs-check format fuzz peers bench install clean deps help fresh
.SECONDARY:
.DELETE_ON_ERROR:

all: $(LOW_LIB) $(BROKER_LIB) $(CLIENT_LIB) $(PROGRAMS) $(if $(filter release,$(MODE)),$(patsubst $(B)/%,build/%,$(PROGRAMS)))

help:
	@echo "make [V=1] [MODE=release|debug|asan|tsan|cov] [all|run|test|unit|wire|sim|demo|killloop|tidy|docs|format|cov|fuzz|peers|bench|man|install|clean]"

# ---- generated code: protocol/schema/*.msg -> build/gen

build/schemac: protocol/schemac.c
	@mkdir -p build
	$(SAY)$@
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE -O1 -g -I. $(WARN) -o $@ $<

$(GEN)/.done: build/schemac $(SCHEMAS)
	@mkdir -p $(GEN)
	$(Q)build/schemac $(GEN) $(SCHEMAS)
	@touch $@

$(GEN)/%.c $(GEN)/%.h: $(GEN)/.done ;

$(B)/gen/%.o: $(GEN)/.done
	@mkdir -p $(@D)
	$(SAY)$@
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $(GEN)/$*.c

# ---- compiling

$(B)/%.o: %.c $(if $(SCHEMAS),$(GEN)/.done)
	@mkdir -p $(@D)
	$(SAY)$@
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

define archive
	$(SAY)$@
	@rm -f $@
	$(Q)$(AR) rcs $@ $^
endef

$(B)/libbase.a: $(call objs,$(BASE_SRC)) ; $(archive)
$(B)/libprotocol.a: $(call objs,$(PROTOCOL_SRC)) $(GEN_OBJ) ; $(archive)
$(B)/librivulet.a: $(call objs,$(CLIENT_SRC)) ; $(archive)
$(B)/librivuletd.a: $(call objs,$(BROKER_SRC)) ; $(archive)
$(B)/libkit.a: $(call objs,$(KIT_SRC)) ; $(archive)

$(B)/rivuletd: $(B)/broker/main.o $(BROKER_LIB) $(LOW_LIB)
	$(SAY)$@
	$(Q)$(CC) $(LDFLAGS) -o $@ $(B)/broker/main.o $(BROKER_LIB) $(B)/libprotocol.a $(B)/libbase.a $(LIBS)

$(B)/rivulet: $(call objs,$(TOOLS_SRC)) $(CLIENT_LIB) $(BROKER_LIB) $(LOW_LIB)
	$(SAY)$@
	$(Q)$(CC) $(LDFLAGS) -o $@ $(call objs,$(TOOLS_SRC)) $(CLIENT_LIB) $(BROKER_LIB) $(B)/libprotocol.a $(B)/libbase.a $(LIBS) -ljansson

build/rivuletd: build/release/rivuletd
	@ln -f $< $@
build/rivulet: build/release/rivulet
	@ln -f $< $@

# ---- tests: each file of tests/{unit,wire,sim} is one program. One that sweeps allocation failures is called *_oom.c and gets the failing
# allocator in the place of base/mem.c.

$(filter %_oom,$(TESTS)): $(B)/tests/%_oom: $(B)/tests/%_oom.o $(B)/tests/kit/failing_mem.o $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(LOW_LIB)
	$(SAY)$@
	$(Q)$(CC) $(LDFLAGS) -o $@ $(B)/tests/$*_oom.o $(B)/tests/kit/failing_mem.o $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(B)/libprotocol.a $(B)/libbase.a -lcmocka $(LIBS) -ljansson

$(B)/tests/%: $(B)/tests/%.o $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(LOW_LIB)
	$(SAY)$@
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(B)/libprotocol.a $(B)/libbase.a -lcmocka $(LIBS) -ljansson

# tests/fuzz: each fuzz_*.c is one target of libFuzzer, seeds.c writes what they start with. MODE=fuzz only.
$(B)/tests/fuzz/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(KIT_LIB) $(BROKER_LIB) $(LOW_LIB)
	$(SAY)$@
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $< $(KIT_LIB) $(BROKER_LIB) $(B)/libprotocol.a $(B)/libbase.a $(LIBS)
$(B)/tests/fuzz/seeds: $(B)/tests/fuzz/seeds.o $(KIT_LIB) $(BROKER_LIB) $(LOW_LIB)
	$(SAY)$@
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(KIT_LIB) $(BROKER_LIB) $(B)/libprotocol.a $(B)/libbase.a $(LIBS)

.PHONY: fuzzers
fuzzers: $(patsubst %.c,$(B)/%,$(FUZZ_SRC)) $(B)/tests/fuzz/seeds

run_tests = tests/run $(MODE) $(patsubst %.c,$(B)/%,$(1))

unit: $(patsubst %.c,$(B)/%,$(UNIT_SRC))
	@$(call run_tests,$(UNIT_SRC))
wire: $(patsubst %.c,$(B)/%,$(WIRE_SRC)) all
	@$(call run_tests,$(WIRE_SRC))
sim: $(patsubst %.c,$(B)/%,$(SIM_SRC))
	@$(call run_tests,$(SIM_SRC))

test: deps
	@$(MAKE) --no-print-directory MODE=$(MODE) check

.PHONY: check
check: all $(TESTS)
	@$(call run_tests,$(UNIT_SRC) $(WIRE_SRC) $(SIM_SRC)) $(if $(filter release,$(MODE)),$(wildcard tests/scripts/test_*))

# Lines covered by unit, wire and sim tests, by room.
.PHONY: cov
cov:
	@[ ! -d build/cov ] || find build/cov -name '*.gcda' -delete
	@$(MAKE) --no-print-directory MODE=cov check
	@tests/cov

# ---- the rest of the two commands

deps:
	@tools/packaging/deps.sh

run: deps
	@$(MAKE) --no-print-directory all
	@exec build/rivuletd $(ARGS)

demo: all
	tests/demo/run
killloop: all
	tests/killloop/run --cycles $(or $(CYCLES),200)
peers: all
	tests/peers/run
fresh:
	tests/fresh.sh
bench: all $(patsubst %.c,$(B)/%,$(BENCH_SRC))
	tests/bench/run $(ARGS)
fuzz:
	tests/fuzz/run $(or $(TIME),60)

# Reference pages that are made from the tables of the source; docs-check fails when they are not as the tables are now.
APIS_MD   = awk -f docs/apis.awk broker/api/apis.def $(SCHEMAS)
CONFIG_MD = build/rivuletd --print-config-docs
CLI_MD    = build/rivulet --markdown

docs: all
	$(APIS_MD) >docs/APIS.md
	$(if $(wildcard broker/main.c),$(CONFIG_MD) >docs/CONFIG.md)
	$(if $(wildcard tools/main.c),$(CLI_MD) >docs/CLI.md)
docs-check: all
	@$(APIS_MD) | cmp - docs/APIS.md || { echo "docs/APIS.md is stale: make docs"; exit 1; }
	@$(if $(wildcard broker/main.c),$(CONFIG_MD) | cmp - docs/CONFIG.md || { echo "docs/CONFIG.md is stale: make docs"; exit 1; })
	@$(if $(wildcard tools/main.c),$(CLI_MD) | cmp - docs/CLI.md || { echo "docs/CLI.md is stale: make docs"; exit 1; })

SOURCES := $(wildcard base/*.[ch] protocol/*.[ch] client/*.[ch] broker/*.[ch] broker/*/*.[ch] tools/*.[ch] tests/*/*.[ch])
format:
	@clang-format-14 -i $(SOURCES)
tidy:
	@$(MAKE) --no-print-directory MODE=release all
	tests/tidy/run

# Manual pages: of rivulet from the table of its verbs, of rivuletd by hand.
.PHONY: man
man: all
	@command -v scdoc >/dev/null || { echo "scdoc is missing: tools/packaging/deps.sh installs it"; exit 1; }
	@mkdir -p build/man
	@set -e; for page in $$(build/rivulet --man); do build/rivulet --man $$page | scdoc >build/man/$$page.1; done
	@scdoc <docs/rivuletd.8.scd >build/man/rivuletd.8

SHARE = $(DESTDIR)$(PREFIX)/share
install: all man
	install -d $(SHARE)/man/man1 $(SHARE)/man/man8
	install -m 644 build/man/*.1 $(SHARE)/man/man1
	install -m 644 build/man/*.8 $(SHARE)/man/man8
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	build/rivulet completion bash >$(SHARE)/bash-completion/completions/rivulet
	build/rivulet completion zsh >$(SHARE)/zsh/site-functions/_rivulet
	build/rivulet completion fish >$(SHARE)/fish/vendor_completions.d/rivulet.fish
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/doc/rivulet
	install -m 755 build/rivuletd build/rivulet $(DESTDIR)$(PREFIX)/bin
	install -m 644 README.md LICENSE docs/*.md $(DESTDIR)$(PREFIX)/share/doc/rivulet

clean:
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
