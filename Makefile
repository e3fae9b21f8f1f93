# rivulet: one file, not recursive. `make help` lists what it can do.
#
# MODE=release (default) | debug | asan (with ubsan) | tsan | cov | fuzz (clang; tests/fuzz/run builds it). Objects of each mode live in
# build/MODE/; the programs of release are linked to build/rivuletd and build/rivulet.

MAKEFLAGS += --no-builtin-rules # or make looks for a way to make the .d files, and finds one

MODE   ?= release
CC     ?= cc
NM      ?= nm
OBJCOPY ?= objcopy
PREFIX ?= /usr/local
B      := build/$(MODE)
GEN    := build/gen

# ---- flags

WARN  := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Werror
BASE  := -std=c17 -D_GNU_SOURCE -g -fno-common -fstack-protector-strong -fPIE -I. -Ibuild -idirafter client -idirafter client/view $(WARN)
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
CFLAGS    = $(BASE) $(FLAGS_$(MODE)) -DRIVULET_VERSION='"$(VERSION)"' $(PART_CFLAGS)
LDFLAGS  := $(LINK) $(LINK_$(MODE))
CODECS   := -lz -lsnappy -llz4 -lzstd
LIBS      = $(CODECS) -luv -lpthread $(PART_LIBS)

# ---- the parts: what a program may link besides librivulet, each a library of its own that uses librivulet by rivulet.h alone. A part X has
# its public header at client/X/rivulet_X.h and becomes librivulet-X. ROOMS_X: the folders that it is made of; a folder without such a header is
# shared, and each part has its own hidden copy. The public header includes <rivulet.h>. NEEDS_X: what pkg-config must find; without it the
# part is not built, nor are its tests (tests/*/test_X*.c, or TESTS_X in the place of X). LINKS_X: those of them that it is linked with, all unless
# it is set (client/sql/weak_sqlite.h). ABOUT_X: a line for its .pc file.

PARTS := store outbox spool view view_sqlite park

ROOMS_store := client/store client/sealed client/sql
NEEDS_store  = $(SQL_NEEDS)
LINKS_store :=
TESTS_store := sql exactly_once
ABOUT_store := exactly once into a database of the service

ROOMS_outbox := client/outbox client/sealed client/sql
NEEDS_outbox  = $(SQL_NEEDS)
LINKS_outbox :=
ABOUT_outbox := events that leave with the transactions of a local database

ROOMS_spool := client/spool client/sealed
ABOUT_spool := events that are kept in a file until the broker has them

ROOMS_view := client/view
ABOUT_view := the latest value of every key of a topic, kept here

ROOMS_view_sqlite := client/view_sqlite
NEEDS_view_sqlite := sqlite3
ABOUT_view_sqlite := a view of a topic kept in SQLite

ROOMS_park := client/park
ABOUT_park := records that fail are tried again later, and parked

# client/sql is built for the databases that are there; a part that is made of it needs one of them.
SQL_DATABASES := $(shell for p in sqlite3 libpq; do pkg-config --exists $$p && echo $$p; done)
SQL_NEEDS     := $(or $(SQL_DATABASES),sqlite3)

links_of = $(if $(filter undefined,$(origin LINKS_$(1))),$(NEEDS_$(1)),$(LINKS_$(1)))
NEEDED      := $(sort $(foreach p,$(PARTS),$(NEEDS_$(p))))
FOUND       := $(if $(NEEDED),$(shell for p in $(NEEDED); do pkg-config --exists $$p && echo $$p; done))
PARTS_THERE := $(foreach p,$(PARTS),$(if $(filter-out $(FOUND),$(NEEDS_$(p))),,$(p)))
PART_SRC    := $(wildcard $(patsubst %,%/*.c,$(sort $(foreach p,$(PARTS_THERE),$(ROOMS_$(p))))))
PART_CFLAGS := $(if $(FOUND),$(shell pkg-config --cflags $(FOUND))) $(if $(filter sqlite3,$(SQL_DATABASES)),-DRIVULET_SQLITE) \
               $(if $(filter libpq,$(SQL_DATABASES)),-DRIVULET_POSTGRES)
PART_LIBS   := $(if $(FOUND),$(shell pkg-config --libs $(FOUND)))
of_parts_there = $(filter-out $(foreach p,$(filter-out $(PARTS_THERE),$(PARTS)),$(foreach t,$(or $(TESTS_$(p)),$(p)),$(foreach d,unit wire sim,tests/$(d)/test_$(t)%) tests/bench/$(t)%)),$(1))

# ---- what there is

SCHEMAS      := $(wildcard protocol/schema/*.msg)
BASE_SRC     := $(wildcard base/*.c)
PROTOCOL_SRC := $(filter-out protocol/schemac.c,$(wildcard protocol/*.c))
BROKER_SRC   := $(filter-out broker/main.c,$(wildcard broker/*.c broker/*/*.c))
CLIENT_SRC   := $(wildcard client/*.c)
TOOLS_SRC    := $(wildcard tools/*.c)
BENCH_SRC    := $(call of_parts_there,$(wildcard tests/bench/*.c))
KIT_SRC      := $(filter-out tests/kit/failing_mem.c,$(wildcard tests/kit/*.c))
UNIT_SRC     := $(call of_parts_there,$(wildcard tests/unit/test_*.c))
WIRE_SRC     := $(call of_parts_there,$(wildcard tests/wire/test_*.c))
SIM_SRC      := $(call of_parts_there,$(wildcard tests/sim/test_*.c))
FUZZ_SRC     := $(wildcard tests/fuzz/fuzz_*.c)
PEER_SRC     := $(wildcard tests/peers/librivulet/*.c)

# What is made, a line each; V=1 shows the commands.
Q   := $(if $(V),,@)
SAY := @echo ' '

objs = $(patsubst %.c,$(B)/%.o,$(1))
GEN_OBJ  := $(patsubst protocol/schema/%.msg,$(B)/gen/%.o,$(SCHEMAS)) $(if $(SCHEMAS),$(B)/gen/apis.o)
LOW_LIB  := $(B)/libbase.a $(B)/libprotocol.a
BROKER_LIB := $(if $(BROKER_SRC),$(B)/librivuletd.a)
CLIENT_LIB := $(if $(PART_SRC),$(B)/libparts.a) $(if $(CLIENT_SRC),$(B)/libclient.a)
LIBRARY    := $(if $(filter release,$(MODE)),$(foreach l,rivulet $(PARTS_THERE:%=rivulet-%),build/lib$(l).a build/lib$(l).so.0))
KIT_LIB    := $(if $(KIT_SRC),$(B)/libkit.a)
PROGRAMS := $(if $(wildcard broker/main.c),$(B)/rivuletd) $(if $(wildcard tools/main.c),$(B)/rivulet)
TESTS    := $(patsubst %.c,$(B)/%,$(UNIT_SRC) $(WIRE_SRC) $(SIM_SRC))

.PHONY: all run test unit wire sim cuts demo killloop killloop-client killloop-store killloop-outbox killloop-examples peer-programs tidy docs docs-check format fuzz peers bench bench-client bench-store install clean deps help fresh
.SECONDARY:
.DELETE_ON_ERROR:

all: $(LOW_LIB) $(BROKER_LIB) $(CLIENT_LIB) $(PROGRAMS) $(LIBRARY) $(if $(filter release,$(MODE)),$(patsubst $(B)/%,build/%,$(PROGRAMS)))

help:
	@echo "make [V=1] [MODE=release|debug|asan|tsan|cov] [all|run|test|unit|wire|sim|cuts|demo|killloop|killloop-client|killloop-store|killloop-outbox|killloop-examples|tidy|docs|format|cov|valgrind|fuzz|peers|bench|bench-store|man|install|clean]"

# ---- generated code: protocol/schema/*.msg -> build/gen

build/schemac: protocol/schemac.c protocol/fallback.def
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
$(B)/libclient.a: $(call objs,$(CLIENT_SRC)) ; $(archive)
$(B)/libparts.a: $(call objs,$(PART_SRC)) ; $(archive)
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

# ---- librivulet, to install: client/ with what it needs of base/ and protocol/, made for size but for the paths that every record takes. Of
# the generated tables only those are in it that client/ includes. What is not in rivulet.h is hidden; the archive is one object with nothing
# else to link to, so that no name of ours meets one of the program's.

HOT        := base/crc32c
LIB_SCHEMA := $(sort $(shell sed -n 's|^\#include "gen/\(.*\)\.h"|\1|p' $(wildcard client/*.[ch])))
LIB_OBJ    := $(patsubst %.c,$(B)/lib/%.o,$(BASE_SRC) $(PROTOCOL_SRC) $(CLIENT_SRC)) $(patsubst %,$(B)/lib/gen/%.o,$(LIB_SCHEMA) some_apis)
LIB_GCC    := $(shell $(CC) --version 2>/dev/null | grep -qi clang || echo yes)
LIB_SMALL  := $(if $(LIB_GCC),-Oz -fno-plt,-Oz)
LIB_PIC    := -fPIC -fstack-protector -fvisibility=hidden -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables
LIB_FLAGS  := $(filter-out -fPIE -O2 -fstack-protector-strong,$(CFLAGS)) $(LIB_PIC) $(if $(LIB_GCC),-flto -ffat-lto-objects) -DRIVULET_CLIENT_ONLY
LIB_NEEDS  := -lz -lsnappy -llz4 -lzstd
# Relocations in a tenth of the room, where the C library can read them (glibc 2.36).
LIB_LINK   := -shared $(if $(LIB_GCC),-flto=2) $(LIB_SMALL) $(LIB_PIC) -Wl,--gc-sections -Wl,-z,noseparate-code -Wl,-z,relro,-z,now -Wl,-z,defs -Wl,--as-needed \
              -Wl,--version-script=client/rivulet.map \
              $(shell grep -qs GLIBC_ABI_DT_RELR "$$($(CC) -print-file-name=libc.so.6)" && echo -Wl,-z,pack-relative-relocs)

$(GEN)/some_apis.c: build/schemac $(SCHEMAS) $(wildcard client/*.[ch]) | $(GEN)/.done
	$(Q)build/schemac --some '$(LIB_SCHEMA)' $(GEN) $(SCHEMAS)

$(patsubst %,$(B)/lib/%.o,$(HOT)): LIB_SPEED := -O2
$(B)/lib/gen/%.o: $(GEN)/.done $(GEN)/some_apis.c
	@mkdir -p $(@D)
	$(SAY)$@
	$(Q)$(CC) $(LIB_FLAGS) $(LIB_SMALL) -MMD -MP -c -o $@ $(GEN)/$*.c
$(B)/lib/%.o: %.c $(GEN)/.done
	@mkdir -p $(@D)
	$(SAY)$@
	$(Q)$(CC) $(LIB_FLAGS) $(or $(LIB_SPEED),$(LIB_SMALL)) -MMD -MP -c -o $@ $<

# link_shared OBJECTS,LIBRARIES and link_static OBJECTS: the target, which is build/NAME.so.0 or, of the same objects and after it, build/NAME.a.
define link_shared
	$(SAY)$@
	$(Q)$(CC) $(LIB_LINK) -Wl,-soname,$(@F) -o $@ $(1) $(2)
endef
define link_static
	$(SAY)$@
	$(Q)$(CC) -r -nostdlib $(if $(LIB_GCC),-fno-lto -fno-use-linker-plugin) -Wl,--gc-sections $$($(NM) -D --defined-only --format=just-symbols $(@:.a=.so.0) | sed -n 's/^\(rv_[a-z_]*\).*/-Wl,-u,\1/p') -o $(B)/lib/$(@F:.a=.o) $(1)
	$(Q)$(OBJCOPY) --localize-hidden --wildcard -R '.gnu.lto_*' -R '.gnu.debuglto_*' $(B)/lib/$(@F:.a=.o)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(B)/lib/$(@F:.a=.o)
endef

build/librivulet.so.0: $(LIB_OBJ) client/rivulet.map
	$(call link_shared,$(LIB_OBJ),$(LIB_NEEDS))
build/librivulet.a: $(LIB_OBJ) build/librivulet.so.0
	$(call link_static,$(LIB_OBJ))

# A part: the same of its rooms, and what they need of base/, protocol/ and the generated tables; librivulet itself is another library.
part_src = $(wildcard $(patsubst %,%/*.c,$(ROOMS_$(1))))
part_gen = $(sort $(shell sed -n 's|^\#include "gen/\(.*\)\.h"|\1|p' $(wildcard $(patsubst %,%/*.[ch],$(ROOMS_$(1))))))
part_obj = $(patsubst %.c,$(B)/lib/%.o,$(BASE_SRC) $(PROTOCOL_SRC) $(call part_src,$(1))) $(patsubst %,$(B)/lib/gen/%.o,$(call part_gen,$(1)) some_apis)
define part
build/librivulet-$(1).so.0: $(call part_obj,$(1)) build/librivulet.so.0 client/rivulet.map
	$$(call link_shared,$(call part_obj,$(1)),build/librivulet.so.0 $(if $(call links_of,$(1)),$(shell pkg-config --libs $(call links_of,$(1)))) $(LIB_NEEDS))
build/librivulet-$(1).a: $(call part_obj,$(1)) build/librivulet-$(1).so.0
	$$(call link_static,$(call part_obj,$(1)))
endef
$(foreach p,$(PARTS_THERE),$(eval $(call part,$(p))))

# ---- tests: each file of tests/{unit,wire,sim} is one program. One that sweeps allocation failures is called *_oom.c and gets the failing
# allocator in the place of base/mem.c.

$(filter %_oom,$(TESTS)): $(B)/tests/%_oom: $(B)/tests/%_oom.o $(B)/tests/kit/failing_mem.o $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(LOW_LIB)
	$(SAY)$@
	$(Q)$(CC) $(LDFLAGS) -o $@ $(B)/tests/$*_oom.o $(B)/tests/kit/failing_mem.o $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(B)/libprotocol.a $(B)/libbase.a -lcmocka $(LIBS) -ljansson

$(B)/tests/%: $(B)/tests/%.o $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(LOW_LIB)
	$(SAY)$@
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(B)/libprotocol.a $(B)/libbase.a -lcmocka $(LIBS) -ljansson

# tests/fuzz: each fuzz_*.c is one target of libFuzzer, seeds.c writes what they start with. MODE=fuzz only. fuzz_client has its own sockets,
# fuzz_lines what the tools read.
WRAPPED := getaddrinfo freeaddrinfo socket connect setsockopt getsockopt send recv close epoll_create1 epoll_ctl epoll_wait
$(B)/tests/fuzz/fuzz_client: $(B)/tests/fuzz/client_net.o
$(B)/tests/fuzz/fuzz_client: FUZZ_LINK := $(B)/tests/fuzz/client_net.o $(foreach name,$(WRAPPED),-Wl,--wrap=$(name))
$(B)/tests/fuzz/fuzz_lines: $(call objs,$(filter-out tools/main.c,$(TOOLS_SRC)))
$(B)/tests/fuzz/fuzz_lines: FUZZ_LINK := $(call objs,$(filter-out tools/main.c,$(TOOLS_SRC)))
$(B)/tests/fuzz/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(LOW_LIB)
	$(SAY)$@
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $< $(FUZZ_LINK) $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(B)/libprotocol.a $(B)/libbase.a $(LIBS) -ljansson
$(B)/tests/fuzz/seeds: $(B)/tests/fuzz/seeds.o $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(LOW_LIB)
	$(SAY)$@
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(KIT_LIB) $(CLIENT_LIB) $(BROKER_LIB) $(B)/libprotocol.a $(B)/libbase.a $(LIBS)

.PHONY: fuzzers
fuzzers: $(patsubst %.c,$(B)/%,$(FUZZ_SRC)) $(B)/tests/fuzz/seeds

run_tests = tests/run $(MODE) $(patsubst %.c,$(B)/%,$(1))

unit: $(patsubst %.c,$(B)/%,$(UNIT_SRC))
	@$(call run_tests,$(UNIT_SRC))
wire: $(patsubst %.c,$(B)/%,$(WIRE_SRC)) all
	@$(call run_tests,$(WIRE_SRC))
sim: $(patsubst %.c,$(B)/%,$(SIM_SRC))
	@$(if $(SECONDS),tests/sim/run $(SECONDS) $(patsubst %.c,$(B)/%,$(SIM_SRC)),$(call run_tests,$(SIM_SRC)))

# The power goes at so many places and times of a broker's life; `make test` has a quarter of them.
cuts: $(B)/tests/sim/test_power_cuts
	RUNS=$(or $(CUTS),10000) $<

test: deps
	@$(MAKE) --no-print-directory MODE=$(MODE) check

.PHONY: check
check: all $(TESTS)
	@$(call run_tests,$(UNIT_SRC) $(WIRE_SRC) $(SIM_SRC)) $(if $(filter release,$(MODE)),$(wildcard tests/scripts/test_*))

# The tests of the client and of the parts, and the base and the wire that they are made of, in valgrind: what asan does not see is memory that was never written.
VALGRIND_SRC := $(filter tests/unit/test_client_% $(foreach p,$(PARTS),$(foreach t,$(or $(TESTS_$(p)),$(p)),tests/unit/test_$(t)%)) tests/unit/test_assignors.c tests/unit/test_base.c tests/unit/test_batch.c tests/unit/test_wire.c,$(UNIT_SRC))
.PHONY: valgrind
valgrind: $(patsubst %.c,$(B)/%,$(VALGRIND_SRC))
	@tools/packaging/deps.sh valgrind
	@RUNNER='valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect' $(call run_tests,$(VALGRIND_SRC))

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
killloop-client: all
	tests/killloop/run_client --rounds $(or $(ROUNDS),100)
killloop-store: all
	tests/killloop/run_store $(or $(KILLS),100)
killloop-outbox: all $(B)/tests/unit/test_outbox_chaos
	ROUNDS=$(or $(ROUNDS),100) $(B)/tests/unit/test_outbox_chaos
killloop-examples: all
	tests/killloop/examples --kills $(or $(ROUNDS),100)
peers: all peer-programs
	tests/peers/run
# The programs on librivulet that tests/peers and tests/killloop start.
peer-programs: $(patsubst %.c,$(B)/%,$(PEER_SRC))
fresh:
	tests/fresh.sh
bench: all $(patsubst %.c,$(B)/%,$(BENCH_SRC))
	tests/bench/run $(ARGS)
bench-store: all $(B)/tests/bench/exactly_once
	$(B)/tests/bench/exactly_once $(RECORDS)
bench-client: all
	tests/bench/client/run $(ARGS)
fuzz:
	tests/fuzz/run $(if $(EACH),--each $(EACH),$(or $(TIME),60)) --jobs $(or $(JOBS),1)

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

SOURCES := $(wildcard base/*.[ch] protocol/*.[ch] client/*.[ch] client/*/*.[ch] broker/*.[ch] broker/*/*.[ch] tools/*.[ch] tests/*/*.[ch])
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

# The .pc file finds its prefix from where it is, so that an installed tree can be moved.
TO    := $(DESTDIR)$(PREFIX)
SHARE := $(TO)/share
install: all man
	install -d $(TO)/bin $(TO)/include $(TO)/lib/pkgconfig $(SHARE)/doc/rivulet/examples $(SHARE)/man/man1 $(SHARE)/man/man8
	install -m 755 build/rivuletd build/rivulet $(TO)/bin
	install -m 644 client/rivulet.h $(foreach p,$(PARTS_THERE),client/$(p)/rivulet_$(p).h) $(TO)/include
	set -e; for name in rivulet $(PARTS_THERE:%=rivulet-%); do \
		install -m 644 build/lib$$name.a $(TO)/lib; \
		install -m 755 build/lib$$name.so.0 $(TO)/lib/lib$$name.so.$(VERSION); \
		ln -sf lib$$name.so.$(VERSION) $(TO)/lib/lib$$name.so.0; \
		ln -sf lib$$name.so.0 $(TO)/lib/lib$$name.so; \
	done
	sed 's/@VERSION@/$(VERSION)/' client/rivulet.pc.in >$(TO)/lib/pkgconfig/rivulet.pc
	$(foreach p,$(PARTS_THERE),sed 's/@VERSION@/$(VERSION)/; s/@PART@/$(p)/; s/@ABOUT@/$(ABOUT_$(p))/; s/@NEEDS@/$(call links_of,$(p))/' client/part.pc.in >$(TO)/lib/pkgconfig/rivulet-$(p).pc &&) :
	chmod 644 $(TO)/lib/pkgconfig/rivulet*.pc
	install -m 644 README.md LICENSE docs/*.md $(SHARE)/doc/rivulet
	install -m 644 examples/* $(SHARE)/doc/rivulet/examples
	install -m 644 build/man/*.1 $(SHARE)/man/man1
	install -m 644 build/man/*.8 $(SHARE)/man/man8
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	build/rivulet completion bash >$(SHARE)/bash-completion/completions/rivulet
	build/rivulet completion zsh >$(SHARE)/zsh/site-functions/_rivulet
	build/rivulet completion fish >$(SHARE)/fish/vendor_completions.d/rivulet.fish

clean:
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
