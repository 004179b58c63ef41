# Holdfast. `make help` lists the targets.
O        ?= build
CC       ?= cc
PREFIX   ?= /usr/local
DESTDIR  ?=
VERSION  := 0.1.0
# The layers, lowest first; a layer includes those before it, never those after it (scripts/check-layers).
LAYERS   ?= base sip config store transport resolver txn registrar proxy worker control

PKGS     := gnutls lmdb libcares libmicrohttpd libconfuse liburcu liburcu-cds libxxhash jansson
# Asked once, and only when something is compiled or linked.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null))$(PKG_LIBS)

OPT      ?= -O2 -g
SAN      ?=
WARN     := -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes \
            -Wmissing-prototypes -Wpointer-arith -Wvla -Wformat=2 -Wundef
HARDEN   ?= -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
CFLAGS_ALL = -std=c11 -D_GNU_SOURCE -DHOLDFAST_VERSION='"$(VERSION)"' -Iinclude -Isrc $(WARN) $(OPT) $(HARDEN) $(SAN) \
             $(PKG_CFLAGS) -pthread -MMD -MP $(CFLAGS)
# The allocator of the product: it gives memory back after a load, and does not fault it in page by page. The sanitizers
# bring their own.
ALLOC_PKG := $(if $(SAN),,jemalloc)
ALLOC_LIB  = $(if $(ALLOC_PKG),$(shell pkg-config --libs $(ALLOC_PKG) 2>/dev/null))
LDFLAGS_ALL = $(SAN) -pthread -pie -Wl,-z,relro,-z,now $(LDFLAGS)

LIB_SRC  := $(foreach l,$(LAYERS),$(wildcard src/$(l)/*.c))
LIB_OBJ  := $(LIB_SRC:%.c=$(O)/%.o)

comma := ,

# `make V=1` shows the commands.
Q   := $(if $(V),,@)
SAY := @$(if $(V),:,printf '  %-3s %s\n')

# test_*.c are the programs; any other .c beside them is linked into each.
UNIT_SRC := $(wildcard test/unit/test_*.c)
UNIT_BIN := $(UNIT_SRC:%.c=$(O)/%)
UNIT_OBJ := $(patsubst %.c,$(O)/%.o,$(filter-out $(UNIT_SRC),$(wildcard test/unit/*.c)))
# test/unit/alloc.c makes the n-th allocation fail.
UNIT_LD  := $(if $(wildcard test/unit/alloc.c),-Wl$(comma)--wrap=malloc -Wl$(comma)--wrap=calloc -Wl$(comma)--wrap=realloc)
SCEN_SRC := $(wildcard test/scenario/test_*.c)
SCEN_BIN := $(SCEN_SRC:%.c=$(O)/%)
SCEN_OBJ := $(patsubst %.c,$(O)/%.o,$(filter-out $(SCEN_SRC),$(wildcard test/scenario/*.c)))
FUZZ_SRC := $(wildcard test/fuzz/fuzz_*.c)
FUZZ_BIN := $(FUZZ_SRC:%.c=$(O)/%)
FUZZ_OBJ := $(patsubst %.c,$(O)/%.o,$(filter-out $(FUZZ_SRC),$(wildcard test/fuzz/*.c)))
# What tools share; the others are a program each.
TOOL_PART := test/bench/link.c
TOOL_SRC := $(filter-out $(TOOL_PART),$(wildcard test/bench/*.c))
TOOL_BIN := $(TOOL_SRC:%.c=$(O)/%)
ALL_OBJ  := $(LIB_OBJ) $(O)/src/main.o $(patsubst %.c,$(O)/%.o,$(wildcard src/ctl/*.c)) $(UNIT_SRC:%.c=$(O)/%.o) $(UNIT_OBJ) $(SCEN_SRC:%.c=$(O)/%.o) $(SCEN_OBJ) \
            $(FUZZ_SRC:%.c=$(O)/%.o) $(FUZZ_OBJ) $(TOOL_SRC:%.c=$(O)/%.o) $(TOOL_PART:%.c=$(O)/%.o)

SYSTEM   := $(wildcard test/system/test_*)
FUZZ_SECONDS ?= 60
JOBS     ?= $(shell nproc)

.PHONY: all run check asan tsan fuzz bench lint install clean help tests tools FORCE
all: $(O)/holdfast $(O)/holdfastctl

help:
	@echo 'make                builds $(O)/holdfast and $(O)/holdfastctl'
	@echo 'make run            installs what is missing, builds, and runs the proxy in the foreground'
	@echo 'make check          all tests: unit, scenario, system'
	@echo 'make asan           the same with AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan'
	@echo 'make tsan           the same with ThreadSanitizer, in build-tsan'
	@echo 'make fuzz           every fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS), in build-fuzz'
	@echo 'make bench          speed and memory beside Kamailio and a bare relay; BENCH="..." passes options'
	@echo 'make lint           clang-format, clang-tidy, cppcheck, scripts/check-layers, mandoc'
	@echo 'make install        into DESTDIR= PREFIX=$(PREFIX)'
	@echo 'make clean          removes the build folders'
	@echo 'scripts/install-deps [build|all]   installs the libraries, or also what tests, lint and bench need'

# --- building ---------------------------------------------------------------------------------------------------

# Says what to do on a machine without the libraries, once, before the first compilation.
$(O)/.deps:
	@pkg-config --exists $(PKGS) $(CTL_PKGS) $(ALLOC_PKG) 2>/dev/null || \
		{ echo 'Libraries or pkg-config are missing: run scripts/install-deps' >&2; exit 1; }
	@mkdir -p $(@D)
	@touch $@

# Rewritten only when they change, so that other flags or a removed source rebuild what depends on them.
FLAGS_NOW = $(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL)
$(O)/.flags: FORCE | $(O)/.deps
	@echo '$(subst ','"'"',$(FLAGS_NOW))' | cmp -s - $@ || echo '$(subst ','"'"',$(FLAGS_NOW))' >$@
$(O)/.objects: FORCE | $(O)/.deps
	@echo '$(LIB_OBJ)' | cmp -s - $@ || echo '$(LIB_OBJ)' >$@

$(O)/libholdfast.a: $(LIB_OBJ) $(O)/.objects
	@rm -f $@
	$(SAY) AR $@
	@# Appends, for two layers may each have a file of the same name.
	$(Q)ar qcs $@ $(LIB_OBJ)

$(O)/holdfast: $(O)/src/main.o $(O)/libholdfast.a
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS) $(ALLOC_LIB)

# The control program shares nothing with the proxy but its name and version.
CTL_PKGS := libcurl jansson
CTL_OBJ  := $(patsubst %.c,$(O)/%.o,$(wildcard src/ctl/*.c))
$(O)/holdfastctl: $(CTL_OBJ)
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(shell pkg-config --libs $(CTL_PKGS))

$(O)/%.o: %.c $(O)/.flags
	@mkdir -p $(@D)
	$(SAY) CC $<
	$(Q)$(CC) $(CFLAGS_ALL) -c -o $@ $<

$(UNIT_BIN): %: %.o $(UNIT_OBJ) $(O)/libholdfast.a
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS_ALL) $(UNIT_LD) -o $@ $^ $(PKG_LIBS) -lcmocka

$(SCEN_BIN): %: %.o $(SCEN_OBJ) $(O)/libholdfast.a
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS) -lcmocka

$(FUZZ_BIN): %: %.o $(FUZZ_OBJ) $(O)/libholdfast.a
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(PKG_LIBS)

# Tools that measure our own code are linked with it.
$(O)/test/bench/location: $(O)/libholdfast.a
$(O)/test/bench/location: TOOL_LIBS = $(PKG_LIBS) $(ALLOC_LIB)
$(O)/test/bench/registers $(O)/test/bench/tlsload: TOOL_LIBS = $(PKG_LIBS)
$(O)/test/bench/tlsload: $(O)/test/bench/link.o
$(TOOL_BIN): %: %.o
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(TOOL_LIBS)

run:
	@scripts/install-deps build
	@$(MAKE) --no-print-directory all
	@scripts/run $(O)/holdfast conf/holdfast.conf run/store

install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man8 \
		$(DESTDIR)$(PREFIX)/share/doc/holdfast
	install -m 755 $(O)/holdfast $(DESTDIR)$(PREFIX)/sbin/
	install -m 755 $(O)/holdfastctl $(DESTDIR)$(PREFIX)/bin/
	install -m 644 man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5/
	install -m 644 man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	install -m 644 conf/holdfast.conf $(DESTDIR)$(PREFIX)/share/doc/holdfast/holdfast.conf.example
	install -m 644 conf/edge.conf conf/balancer.conf $(DESTDIR)$(PREFIX)/share/doc/holdfast/

clean:
	rm -rf build build-*

# --- tests ------------------------------------------------------------------------------------------------------

tools: $(TOOL_BIN)
tests: $(UNIT_BIN) $(SCEN_BIN) $(TOOL_BIN) $(O)/holdfast $(O)/holdfastctl

# HOLDFAST and TOOLS tell the system tests what to run; SANITIZER makes them patient.
check: tests
	@HOLDFAST=$(abspath $(O)/holdfast) TOOLS=$(abspath $(O)/test/bench) SANITIZER=$(SANITIZER) \
		scripts/run-tests -j $(JOBS) $(UNIT_BIN) $(SCEN_BIN) $(SYSTEM)

# Each sanitizer builds everything again in a folder of its own.
asan:
	@$(MAKE) --no-print-directory check O=build-asan SANITIZER=address HARDEN=-fPIE OPT='-O1 -g -fno-omit-frame-pointer' \
		SAN='-fsanitize=address,undefined -fno-sanitize-recover=all'
tsan:
	@$(MAKE) --no-print-directory check O=build-tsan SANITIZER=thread HARDEN=-fPIE OPT='-O1 -g -fno-omit-frame-pointer' \
		SAN='-fsanitize=thread'

# New inputs that libFuzzer finds go to build-fuzz, never into test/fuzz/corpus.
fuzz:
	@$(MAKE) --no-print-directory fuzz-run O=build-fuzz CC=clang HARDEN=-fPIE OPT='-O1 -g -fno-omit-frame-pointer' \
		SAN='-fsanitize=address,undefined -fno-sanitize-recover=all' CFLAGS='-fsanitize=fuzzer-no-link $(CFLAGS)'
.PHONY: fuzz-run
fuzz-run: $(FUZZ_BIN)
	@scripts/run-fuzz -j $(JOBS) -s $(FUZZ_SECONDS) -o $(O)/fuzz $(FUZZ_BIN)

bench: $(TOOL_BIN) $(O)/holdfast
	@HOLDFAST=$(abspath $(O)/holdfast) TOOLS=$(abspath $(O)/test/bench) test/bench/bench $(BENCH)

# --- lint -------------------------------------------------------------------------------------------------------

LINT_C   := $(LIB_SRC) src/main.c $(wildcard src/ctl/*.c test/*/*.c)
LINT_H   := $(wildcard include/*/*.h src/*/*.h src/*.h test/*/*.h)
LINT_DEF := $(wildcard include/*/*.def src/*/*.def)
TIDY     := $(LINT_C:%.c=$(O)/lint/%.tidy)

lint: lint-format lint-layers lint-man lint-tidy lint-cppcheck
.PHONY: lint-format lint-layers lint-man lint-tidy lint-cppcheck
lint-format:
	@clang-format --dry-run -Werror $(LINT_C) $(LINT_H)
lint-layers:
	@scripts/check-layers
lint-man:
	@$(if $(wildcard man/*),mandoc -T lint -W warning $(wildcard man/*))
lint-tidy: $(TIDY)
# One stamp a file: a second `make lint` looks only at what changed.
$(O)/lint/%.tidy: %.c .clang-tidy test/.clang-tidy $(LINT_H) $(LINT_DEF) | $(O)/.deps
	@mkdir -p $(@D)
	@clang-tidy --quiet --warnings-as-errors='*' $< -- -std=c11 -D_GNU_SOURCE -DHOLDFAST_VERSION='"$(VERSION)"' \
		-Iinclude -Isrc $(PKG_CFLAGS) >$@.log 2>&1 || { cat $@.log; exit 1; }
	@touch $@
lint-cppcheck: | $(O)/.deps
	@mkdir -p $(O)/lint/cppcheck
	@cppcheck --quiet --error-exitcode=1 --enable=warning,performance,portability --inline-suppr --std=c11 \
		--cppcheck-build-dir=$(O)/lint/cppcheck -j $(JOBS) -D_GNU_SOURCE -DHOLDFAST_VERSION='"$(VERSION)"' \
		-Iinclude -Isrc --suppress=missingIncludeSystem $(LIB_SRC) $(wildcard src/main.c)

.PRECIOUS: $(O)/%.o
-include $(ALL_OBJ:.o=.d)
