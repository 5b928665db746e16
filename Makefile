# SPDX-License-Identifier: MIT
#
#   all deps quickstart examples     build the library; install packages; the tutorial
#   check lint                       all tests; style and rules alone
#   check-asan check-tsan check-valgrind check-documents fuzz       one part each
#   bench                            the hot paths against their floor
#   install uninstall clean
#
# CC, CFLAGS, CPPFLAGS, LDFLAGS, WERROR, PREFIX, LIBDIR, INCLUDEDIR, MANDIR and DESTDIR are the
# caller's; what the code itself needs is added beside them.

ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
CXX_CHECKS ?= g++ clang++
PYTHON ?= /usr/bin/python3
PKG_CONFIG ?= pkg-config
NM ?= nm
OBJCOPY ?= objcopy
INSTALL ?= install

BUILD ?= build
CFLAGS ?= -O2 -g
WERROR ?= -Werror

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man

# What `make deps` installs: Debian's names.
DEPS_BUILD := gcc make libc6-dev binutils pkg-config libcjson-dev libssl-dev liblmdb-dev
DEPS_CHECK := clang clang-format libclang-rt-dev g++ libcmocka-dev valgrind strace mandoc \
	universal-ctags locales python3 python3-cffi python3-cryptography

# ---- deps together with other goals: first the packages, then the rest by a make that sees them ----

GOALS := $(filter-out deps,$(MAKECMDGOALS))
ifneq ($(and $(filter deps,$(MAKECMDGOALS)),$(GOALS)),)

.PHONY: deps $(GOALS)
.NOTPARALLEL:
deps:
	@sh .ci/deps $(DEPS_BUILD) $(DEPS_CHECK)
$(GOALS): deps
	+@$(MAKE) --no-print-directory $@

else

# ---- what is built ----------------------------------------------------------------------------------

VERSION := $(shell sed -n 's/^\#define CREDSTORE_VERSION  *"\(.*\)"/\1/p' include/credstore.h)
SONAME := libcredstore.so.$(firstword $(subst ., ,$(VERSION)))
SHARED := libcredstore.so.$(VERSION)

PACKAGES := libcjson libcrypto lmdb
# Run when first used and once: `make clean` and a syntax error need no pkg-config.
once = $(eval $(1) := $(2))$($(1))
pkg = $(if $(shell $(PKG_CONFIG) --exists $(2) && echo yes),$(shell $(PKG_CONFIG) $(1) $(2)),\
  $(error $(PKG_CONFIG) does not find $(2): run `make deps`))
PKG_CFLAGS = $(call once,PKG_CFLAGS,$(call pkg,--cflags,$(PACKAGES)))
PKG_LIBS = $(call once,PKG_LIBS,$(call pkg,--libs,$(PACKAGES)))
TEST_LIBS = $(call once,TEST_LIBS,$(call pkg,--libs,cmocka))

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla -Wformat=2 $(WERROR)
CS_CFLAGS := -std=c11 -fPIC -fvisibility=hidden -pthread -fstack-protector-strong $(WARNINGS)
CS_CPPFLAGS := -D_POSIX_C_SOURCE=200809L -Iinclude
INTERNAL := -iquote lib
CS_LDFLAGS := -pthread -Wl,-z,relro,-z,now

# SANITIZE=address,undefined builds everything so; check-asan and check-tsan set it.
ifdef SANITIZE
CS_CFLAGS += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
CS_LDFLAGS += -fsanitize=$(SANITIZE)
else ifneq ($(filter -O1 -O2 -O3 -Os,$(CFLAGS)),)
ifeq ($(findstring _FORTIFY_SOURCE,$(CFLAGS) $(CPPFLAGS)),)
CS_CPPFLAGS += -D_FORTIFY_SOURCE=2
endif
endif

COMPILE = $(CC) $(CS_CPPFLAGS) $(INTERNAL) $(CPPFLAGS) $(CS_CFLAGS) $(CFLAGS)
LINK = $(CC) $(CS_CFLAGS) $(CFLAGS) $(CS_LDFLAGS) $(LDFLAGS)
RELINK = $(CC) $(CFLAGS) -r -nostdlib $(if $(findstring -flto,$(CFLAGS)),-flinker-output=nolto-rel)
SUB = $(MAKE) -s --no-print-directory

SOURCES := $(sort $(wildcard lib/*.c lib/*/*.c))
HEADERS := include/credstore.h $(sort $(wildcard include/credstore/*.h))
EXAMPLES := $(sort $(wildcard examples/*.c))
KINDS := $(sort $(wildcard lib/kinds/*.c))
TEST_KINDS := $(sort $(wildcard tests/kinds/*.c))

TABLE := $(BUILD)/kinds_table.o
TEST_TABLE := $(BUILD)/kinds_table_test.o
TABLES := $(TABLE) $(TEST_TABLE)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)

.PHONY: all objects examples programs
all: $(BUILD)/$(SHARED) $(BUILD)/libcredstore.a $(BUILD)/libcredstore.pc
objects: $(OBJECTS) $(TABLE)
examples: $(EXAMPLES:%.c=$(BUILD)/%)

# A change of compiler or flags rebuilds: the file is rewritten only when its text differs.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(COMPILE) | $(LINK)' | cmp -s - $@ || echo '$(COMPILE) | $(LINK)' > $@

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(COMPILE) $(PKG_CFLAGS) -MMD -MP -c -o $@ $<

# The table of kinds is made from the files of lib/kinds, so that no other file names a kind.
$(BUILD)/kinds_table.c: NAMES = $(basename $(notdir $(KINDS)))
$(BUILD)/kinds_table_test.c: NAMES = $(basename $(notdir $(KINDS) $(TEST_KINDS)))
$(TABLES:.o=.c): lib/kinds $(wildcard tests/kinds) Makefile
	@mkdir -p $(@D)
	@{ printf '#include "kind.h"\n\n'; \
	  printf 'extern const cs_kind cs_kind_%s;\n' $(NAMES); \
	  printf '\nconst cs_kind *const cs_kinds[] = {\n'; \
	  printf '    &cs_kind_%s,\n' $(NAMES); \
	  printf '};\nconst size_t cs_kind_count = $(words $(NAMES));\n'; } > $@
$(TABLES): %.o: %.c $(BUILD)/flags
	$(COMPILE) -MMD -MP -c -o $@ $<

$(BUILD)/$(SHARED): $(OBJECTS) $(TABLE) lib/libcredstore.map
	$(LINK) -shared -Wl,-soname,$(SONAME) -Wl,--no-undefined \
	  -Wl,--version-script=lib/libcredstore.map -o $@ $(OBJECTS) $(TABLE) $(PKG_LIBS)
	ln -sf $(SHARED) $(BUILD)/$(SONAME)
	ln -sf $(SONAME) $(BUILD)/libcredstore.so

# One relocatable object in which only credstore_* is global, so that cs_* cannot clash.
$(BUILD)/libcredstore.a: $(OBJECTS) $(TABLE)
	$(RELINK) -o $(BUILD)/libcredstore.o $(OBJECTS) $(TABLE)
	$(OBJCOPY) --localize-hidden $(BUILD)/libcredstore.o
	rm -f $@
	$(AR) rcs $@ $(BUILD)/libcredstore.o

$(BUILD)/libcredstore.pc: pkgconfig/libcredstore.pc.in include/credstore.h FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
	  -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|' $< > $@

# Examples see what an application sees: include/ and the library.
$(BUILD)/examples/%.o: INTERNAL :=
$(EXAMPLES:%.c=$(BUILD)/%): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libcredstore.a
	$(LINK) -o $@ $^ $(PKG_LIBS)

.PHONY: quickstart
quickstart:
	+@$(SUB) $(BUILD)/examples/quickstart
	@$(BUILD)/examples/quickstart

# ---- tests ------------------------------------------------------------------------------------------
# Programs: tests/*_test.c and storage_contract.c, linked with an archive of the objects: they use cs_
# functions, and may bring their own in place of one. Helpers: programs that tests start. Scripts:
# tests/*_test.sh and *_test.py. All run in this folder. Per program: LIBS_<name> adds to its link,
# MORE_<name> are objects that come before the archive's, and NOT_asan_<name>, NOT_tsan_<name>,
# NOT_valgrind_<name> keep it out of a run, with the reason that is printed.

PROGRAMS := $(basename $(sort $(wildcard tests/*_test.c tests/*/*_test.c tests/storage_contract.c)))
HELPERS := $(basename $(filter-out %_test.c,$(sort $(wildcard tests/bench/*.c tests/documents/*.c \
	tests/helpers/*.c))))
SCRIPTS := $(sort $(wildcard tests/*_test.sh tests/*_test.py tests/*/*_test.sh tests/*/*_test.py))
TSAN_PROGRAMS ?= $(PROGRAMS)
TEST_TIMEOUT ?= 300

MORE_fifth_kind_test := $(TEST_TABLE) $(TEST_KINDS:%.c=$(BUILD)/%.o)
WORK := $(BUILD)/tests/stress/work.o
MORE_stress_test := $(WORK)
MORE_life_test := $(WORK)
MORE_stale_test := $(WORK)
# scan_test looks at what a process leaves in memory.
NOT_asan_scan_test := the sanitizer keeps freed memory as it was
NOT_tsan_scan_test := the shadow memory is too large to be looked through
NOT_tsan_alloc_test := it has one thread
NOT_tsan_flip_test := it has one thread
NOT_valgrind_scan_test := valgrind keeps freed memory as it was
# A program that defines __wrap_f is linked with --wrap=f.
wraps = $(patsubst __wrap_%,-Wl$(comma)--wrap=%,$(sort $(shell grep -oh '__wrap_[A-Za-z][A-Za-z0-9_]*' $(1))))
comma := ,

INTERNALS := $(BUILD)/internals.a
$(INTERNALS): $(OBJECTS) $(TABLE)
	rm -f $@
	$(AR) rcs $@ $^
# What test programs share: tests/support.h, tests/kind_contract.h.
SUPPORT := $(BUILD)/tests/support.a
$(SUPPORT): $(BUILD)/tests/support.o $(BUILD)/tests/kind_contract.o
	rm -f $@
	$(AR) rcs $@ $^

.SECONDEXPANSION:
PROGRAMS_BUILT := $(addprefix $(BUILD)/,$(PROGRAMS))
HELPERS_BUILT := $(addprefix $(BUILD)/,$(HELPERS))
programs: $(PROGRAMS_BUILT) $(HELPERS_BUILT)
$(PROGRAMS_BUILT) $(HELPERS_BUILT): $(BUILD)/%: $(BUILD)/%.o $$(MORE_$$(*F)) $(SUPPORT) $(INTERNALS)
	$(LINK) $(call wraps,$*.c) -o $@ $^ $(LIBS_$(*F)) $(TEST_LIBS) $(PKG_LIBS)

# `make run/tests/url_test` runs one. Each run leaves its counts in $(RESULTS).
VARIANT ?= plain
RESULTS := $(BUILD)/results
RUN = CREDSTORE_BUILD='$(abspath $(BUILD))' CREDSTORE_VARIANT=$(VARIANT) CC='$(CC)' \
	CLANG='$(CLANG)' CXX_CHECKS='$(CXX_CHECKS)' PYTHON='$(PYTHON)' PKG_CONFIG='$(PKG_CONFIG)' \
	NM='$(NM)' MAKE='$(MAKE)' VERSION='$(VERSION)' sh tests/run.sh $(RESULTS) $(TEST_TIMEOUT)

RUN_PROGRAMS := $(addprefix run/,$(PROGRAMS))
RUN_SCRIPTS := $(addprefix run/,$(SCRIPTS))
run/tests/secrets_undefined_test.sh: $(BUILD)/tests/secrets_undefined_test
.PHONY: $(RUN_PROGRAMS) $(RUN_SCRIPTS) run-programs run-lint
$(RUN_PROGRAMS): export NOT = $(NOT_$(VARIANT)_$(*F))
$(RUN_PROGRAMS): run/%: $(BUILD)/% | $(HELPERS_BUILT)
	@$(RUN) $* $(RUN_UNDER) $<
$(RUN_SCRIPTS): run/%: all examples $(HELPERS_BUILT)
	+@$(RUN) $* $(if $(filter %.py,$*),$(PYTHON),sh) $*
run-programs: $(RUN_PROGRAMS)
run-lint: all examples
	+@$(RUN) lint $(SUB) lint

# Sanitizers and valgrind: the programs alone, each kind in a build folder of its own.
ASAN = SANITIZE=address,undefined VARIANT=asan BUILD=$(BUILD)/asan CFLAGS='$(CFLAGS) -O1'
TSAN = SANITIZE=thread VARIANT=tsan BUILD=$(BUILD)/tsan PROGRAMS='$(TSAN_PROGRAMS)'
VALGRIND = VARIANT=valgrind RESULTS=$(BUILD)/results-valgrind TEST_TIMEOUT=1200 RUN_UNDER='valgrind \
	--quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,indirect'
# use_sigaltstack: ASan takes a cancelled thread's stack for poisoned when it puts the signal stack back.
export ASAN_OPTIONS ?= detect_leaks=1:halt_on_error=1:allocator_may_return_null=1:use_sigaltstack=0
export UBSAN_OPTIONS ?= halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS ?= halt_on_error=1:second_deadlock_stack=1:allocator_may_return_null=1

COUNT = sh tests/count.sh

.PHONY: check run-checks run-asan check-asan check-tsan check-valgrind check-documents
check:
	@rm -rf $(RESULTS) $(BUILD)/asan/results
	+@$(SUB) -k run-checks; $(COUNT) $$? $(RESULTS) $(BUILD)/asan/results
run-checks: $(RUN_PROGRAMS) $(RUN_SCRIPTS) run-lint run-asan
run-asan:
	+@$(SUB) $(ASAN) run-programs
check-asan:
	@rm -rf $(BUILD)/asan/results
	+@$(SUB) -k run-asan; $(COUNT) $$? $(BUILD)/asan/results
check-tsan:
	@rm -rf $(BUILD)/tsan/results
	+@$(SUB) -k $(TSAN) run-programs; $(COUNT) $$? $(BUILD)/tsan/results
check-valgrind:
	@rm -rf $(BUILD)/results-valgrind
	+@$(SUB) -k $(VALGRIND) run-programs; $(COUNT) $$? $(BUILD)/results-valgrind
check-documents:
	@rm -rf $(RESULTS)
	+@$(SUB) -k $(filter run/tests/documents/%,$(RUN_SCRIPTS)); code=$$?; \
	  sed -n '/^documents: /p' $(RESULTS)/*.log; $(COUNT) $$code $(RESULTS)

# The hot paths against a floor, in ratios; fails if they allocate or fetch. Numbers: bench.c.
.PHONY: bench
bench:
	+@$(SUB) $(BUILD)/tests/bench/bench
	@$(BUILD)/tests/bench/bench

FUZZERS := $(basename $(sort $(wildcard tests/fuzz/*.c)))
FUZZ_SECONDS ?= 30
FUZZ = CC=$(CLANG) SANITIZE=fuzzer-no-link,address,undefined VARIANT=fuzz BUILD=$(BUILD)/fuzz
.PHONY: fuzz run-fuzzers $(FUZZERS:%=run/%)
fuzz:
	@rm -rf $(BUILD)/fuzz/results
	+@$(SUB) -k $(FUZZ) TEST_TIMEOUT=$$(($(FUZZ_SECONDS) + 120)) run-fuzzers; \
	  $(COUNT) $$? $(BUILD)/fuzz/results
run-fuzzers: $(FUZZERS:%=run/%)
$(FUZZERS:%=$(BUILD)/%): $(BUILD)/%: $(BUILD)/%.o $(INTERNALS)
	$(LINK) -fsanitize=fuzzer -o $@ $^ $(PKG_LIBS)
# What was found before is kept and tried again; seeds lie in tests/fuzz/corpus/<name without _fuzz>.
$(FUZZERS:%=run/%): run/%: $(BUILD)/%
	@mkdir -p $(BUILD)/corpus/$(*F)
	@$(RUN) $* $< -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 \
	  -artifact_prefix=$(BUILD)/$(*F)- $(BUILD)/corpus/$(*F) \
	  $(wildcard tests/fuzz/corpus/$(patsubst %_fuzz,%,$(*F)))

.PHONY: lint
lint:
	+@$(SUB) objects examples
	+@$(SUB) CC=$(CLANG) BUILD=$(BUILD)/clang objects examples
	@BUILD='$(BUILD)' CC='$(CC)' NM='$(NM)' sh tests/check_style.sh

# ---- install ----------------------------------------------------------------------------------------

PAGES := $(wildcard man/*.[0-9])
LIBS_INSTALLED := $(SHARED) $(SONAME) libcredstore.so libcredstore.a
.PHONY: install uninstall clean deps
install: all
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR)/credstore
	$(INSTALL) -m 644 include/credstore.h $(DESTDIR)$(INCLUDEDIR)
	$(INSTALL) -m 644 include/credstore/*.h $(DESTDIR)$(INCLUDEDIR)/credstore
	$(INSTALL) -m 755 $(BUILD)/$(SHARED) $(DESTDIR)$(LIBDIR)
	ln -sf $(SHARED) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libcredstore.so
	$(INSTALL) -m 644 $(BUILD)/libcredstore.a $(DESTDIR)$(LIBDIR)
	$(INSTALL) -m 644 $(BUILD)/libcredstore.pc $(DESTDIR)$(LIBDIR)/pkgconfig
	set -e; for page in $(PAGES); do section=$(DESTDIR)$(MANDIR)/man$${page##*.}; \
	  $(INSTALL) -d $$section; $(INSTALL) -m 644 $$page $$section; done

uninstall:
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,$(LIBS_INSTALLED) pkgconfig/libcredstore.pc)
	rm -f $(HEADERS:include/%=$(DESTDIR)$(INCLUDEDIR)/%)
	rm -f $(foreach page,$(PAGES),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page)))
	rmdir $(DESTDIR)$(INCLUDEDIR)/credstore 2>/dev/null || true

clean:
	rm -rf $(BUILD)

deps:
	@sh .ci/deps $(DEPS_BUILD) $(DEPS_CHECK)

.PHONY: FORCE
FORCE:
-include $(patsubst %.c,$(BUILD)/%.d,$(SOURCES) $(TEST_KINDS) $(EXAMPLES)) $(TABLES:.o=.d) \
  $(patsubst %,$(BUILD)/%.d,$(PROGRAMS) $(HELPERS) $(FUZZERS) tests/support tests/kind_contract tests/stress/work)

endif
