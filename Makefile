# SPDX-License-Identifier: MIT
#
#   all deps quickstart examples     build the library; install packages; the tutorial
#   check lint                       all tests; style and rules alone
#   check-asan check-tsan check-valgrind check-documents fuzz       one part each
#   check-abi abi-accept             the interface against tests/abi; write down what is new in it
#   check-root                       from an empty Debian: as root, with the network, some minutes
#   bench load                       the hot paths against their floor; the example under load, 30 s
#   campaign-rotation campaign-check campaign-kills campaign-powercut   the long forms: minutes each
#   install uninstall clean
#   dist distcheck                   the source as libcredstore-VERSION.tar.gz; all checks from it
#
# CC, CFLAGS, CPPFLAGS, LDFLAGS, WERROR, PREFIX, LIBDIR, INCLUDEDIR, MANDIR, DOCDIR, PKGCONFIGDIR and
# DESTDIR are the caller's; what the code itself needs is added beside them.

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
DOCDIR ?= $(PREFIX)/share/doc/libcredstore
PKGCONFIGDIR ?= $(LIBDIR)/pkgconfig

# What `make deps` installs: Debian's names.
DEPS_BUILD := gcc make libc6-dev binutils pkg-config libcjson-dev libssl-dev liblmdb-dev
DEPS_CHECK := clang clang-format libclang-rt-dev g++ libcmocka-dev valgrind strace mandoc \
	universal-ctags locales python3 python3-cffi python3-pycparser python3-cryptography \
	abigail-tools cmake meson git libmicrohttpd-dev curl

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
# The last map that fits wins. Without them the folders would be in the debug information.
MAPS := -ffile-prefix-map=$(CURDIR)=. -ffile-prefix-map=$(BUILD)=build
CS_CFLAGS := -std=c11 -fPIC -fvisibility=hidden -pthread -fstack-protector-strong $(MAPS) $(WARNINGS)
CS_CPPFLAGS := -D_POSIX_C_SOURCE=200809L -Iinclude
INTERNAL := -iquote lib
CS_LDFLAGS := -pthread -Wl,-z,relro,-z,now,-z,noexecstack

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
RELINK = $(CC) $(MAPS) $(CFLAGS) -r -nostdlib $(if $(findstring -flto,$(CFLAGS)),-flinker-output=nolto-rel)
SUB = $(MAKE) -s --no-print-directory

SOURCES := $(sort $(wildcard lib/*.c lib/*/*.c))
HEADERS := include/credstore.h $(sort $(wildcard include/credstore/*.h))
EXAMPLES := $(sort $(wildcard examples/*.c))
HTTPD := $(sort $(wildcard examples/httpd/*.c))
KINDS := $(sort $(wildcard lib/kinds/*.c))
TEST_KINDS := $(sort $(wildcard tests/kinds/*.c))

TABLE := $(BUILD)/kinds_table.o
TEST_TABLE := $(BUILD)/kinds_table_test.o
TABLES := $(TABLE) $(TEST_TABLE)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)

.PHONY: all objects examples programs test-objects
all: $(BUILD)/$(SHARED) $(BUILD)/libcredstore.a $(BUILD)/libcredstore.pc
objects: $(OBJECTS) $(TABLE)
examples: $(EXAMPLES:%.c=$(BUILD)/%) $(BUILD)/examples/httpd

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
	$(AR) rcsD $@ $(BUILD)/libcredstore.o

# So that pkg-config can move the tree with --define-variable=prefix=.
in_prefix = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))
$(BUILD)/libcredstore.pc: pkgconfig/libcredstore.pc.in include/credstore.h FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(call in_prefix,$(LIBDIR))|' \
	  -e 's|@INCLUDEDIR@|$(call in_prefix,$(INCLUDEDIR))|' -e 's|@VERSION@|$(VERSION)|' $< > $@

# Examples see what an application sees: include/ and the library.
$(BUILD)/examples/%.o: INTERNAL :=
$(EXAMPLES:%.c=$(BUILD)/%): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libcredstore.a
	$(LINK) -o $@ $^ $(PKG_LIBS)

# The service is a folder of files. Its objects lie elsewhere: the program bears the folder's name.
HTTPD_OBJECTS := $(HTTPD:examples/%.c=$(BUILD)/parts/%.o)
HTTPD_LIBS = $(call once,HTTPD_LIBS,$(call pkg,--libs,libmicrohttpd))
HTTPD_CFLAGS = $(call once,HTTPD_CFLAGS,$(call pkg,--cflags,libmicrohttpd))
$(HTTPD_OBJECTS): INTERNAL :=
$(HTTPD_OBJECTS): $(BUILD)/parts/%.o: examples/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(COMPILE) $(HTTPD_CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/examples/httpd: $(HTTPD_OBJECTS) $(BUILD)/libcredstore.a
	@mkdir -p $(@D)
	$(LINK) -o $@ $^ $(HTTPD_LIBS) $(PKG_LIBS)

.PHONY: quickstart
quickstart:
	+@$(SUB) $(BUILD)/examples/quickstart
	@$(BUILD)/examples/quickstart $(BUILD)/quickstart

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

LIBS_bare_httpd = $(HTTPD_LIBS)
MORE_fifth_kind_test := $(TEST_TABLE) $(TEST_KINDS:%.c=$(BUILD)/%.o)
WORK := $(BUILD)/tests/stress/work.o
MORE_stress_test := $(WORK)
MORE_killed_test := $(WORK)
MORE_life_test := $(WORK)
MORE_stale_test := $(WORK)
# scan_test looks at what a process leaves in memory.
NOT_asan_scan_test := the sanitizer keeps freed memory as it was
NOT_tsan_scan_test := the shadow memory is too large to be looked through
NOT_tsan_alloc_test := it has one thread
NOT_asan_powercut_test := the sanitizer stands between LMDB and the kernel, where the test does
NOT_tsan_powercut_test := the sanitizer stands between LMDB and the kernel, where the test does
NOT_valgrind_powercut_test := 20000 stores are opened
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
test-objects: $(PROGRAMS_BUILT:=.o) $(HELPERS_BUILT:=.o)
$(PROGRAMS_BUILT) $(HELPERS_BUILT): $(BUILD)/%: $(BUILD)/%.o $$(MORE_$$(*F)) $(SUPPORT) $(INTERNALS)
	$(LINK) $(call wraps,$*.c) -o $@ $^ $(LIBS_$(*F)) $(TEST_LIBS) $(PKG_LIBS)

# `make run/tests/url_test` runs one. Each run leaves its counts in $(RESULTS).
VARIANT ?= plain
RESULTS := $(BUILD)/results
RUN = CREDSTORE_BUILD='$(abspath $(BUILD))' CREDSTORE_VARIANT=$(VARIANT) CC='$(CC)' \
	CLANG='$(CLANG)' CXX_CHECKS='$(CXX_CHECKS)' PYTHON='$(PYTHON)' PKG_CONFIG='$(PKG_CONFIG)' \
	NM='$(NM)' MAKE='$(MAKE)' VERSION='$(VERSION)' sh tests/run.sh $(RESULTS) $(TEST_TIMEOUT)

RUN_PROGRAMS := $(addprefix run/,$(PROGRAMS))
RUN_SCRIPTS := $(addprefix run/,$(filter-out tests/httpd/%,$(SCRIPTS)))
RUN_HTTPD := $(addprefix run/,$(filter tests/httpd/%,$(SCRIPTS)))
run/tests/secrets_undefined_test.sh: $(BUILD)/tests/secrets_undefined_test
.PHONY: $(RUN_PROGRAMS) $(RUN_SCRIPTS) run-programs run-lint run-abi
$(RUN_PROGRAMS): export NOT = $(NOT_$(VARIANT)_$(*F))
$(RUN_PROGRAMS): run/%: $(BUILD)/% | $(HELPERS_BUILT)
	@$(RUN) $* $(RUN_UNDER) $<
$(RUN_SCRIPTS): run/%: all examples $(HELPERS_BUILT)
	+@$(RUN) $* $(if $(filter %.py,$*),$(PYTHON),sh) $*
# The example's tests start it themselves, under what programs run under.
.PHONY: $(RUN_HTTPD) run-httpd
HTTPD_NEEDS := $(addprefix $(BUILD)/,examples/httpd tests/helpers/load_client tests/helpers/bare_httpd)
$(RUN_HTTPD): run/%: $(HTTPD_NEEDS)
	+@CREDSTORE_HTTPD_UNDER='$(RUN_UNDER)' $(RUN) $* $(PYTHON) $*
run-httpd: $(RUN_HTTPD)
run-programs: $(RUN_PROGRAMS)
run-lint: all examples
	+@$(RUN) lint $(SUB) lint
run-abi:
	+@$(RUN) abi $(SUB) check-abi

# Sanitizers and valgrind: programs and the example's tests, each kind in a build folder of its own.
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
run-checks: $(RUN_PROGRAMS) $(RUN_SCRIPTS) run-httpd run-lint run-abi run-asan
run-asan:
	+@$(SUB) $(ASAN) run-programs run-httpd
check-asan:
	@rm -rf $(BUILD)/asan/results
	+@$(SUB) -k run-asan; $(COUNT) $$? $(BUILD)/asan/results
check-tsan:
	@rm -rf $(BUILD)/tsan/results
	+@$(SUB) -k $(TSAN) run-programs run-httpd; $(COUNT) $$? $(BUILD)/tsan/results
check-valgrind:
	@rm -rf $(BUILD)/results-valgrind
	+@$(SUB) -k $(VALGRIND) run-programs run-httpd; $(COUNT) $$? $(BUILD)/results-valgrind
check-documents:
	@rm -rf $(RESULTS)
	+@$(SUB) -k $(filter run/tests/documents/%,$(RUN_SCRIPTS)); code=$$?; \
	  sed -n '/^documents: /p' $(RESULTS)/*.log; $(COUNT) $$code $(RESULTS)

# The interface against tests/abi, from a build of its own: optimisation hides types from abidw.
ABI = BUILD=$(BUILD)/abi CFLAGS='-O0 -g'
.PHONY: check-abi abi-accept
check-abi abi-accept:
	+@$(SUB) $(ABI) all
	@CC='$(CC)' $(PYTHON) tests/abi/abi.py $(if $(filter abi-%,$@),accept,check) --library $(BUILD)/abi/$(SHARED)

# The hot paths against a floor, in ratios; fails if they allocate or fetch. Then durable updates.
# Numbers: bench.c, updates.c.
.PHONY: bench
bench:
	+@$(SUB) $(BUILD)/tests/bench/bench $(BUILD)/tests/bench/updates
	@$(BUILD)/tests/bench/bench
	@$(BUILD)/tests/bench/updates

# PUT and PATCH over 16 connections, beside a bare handler.
.PHONY: load
load: $(HTTPD_NEEDS)
	@CREDSTORE_BUILD='$(abspath $(BUILD))' CREDSTORE_LOAD_SECONDS=30 $(PYTHON) tests/httpd/load_test.py

# The long forms of what is small in `check`. Rotation of 100000 records' keys, killed 200 times:
# minutes. credstore_check() over 100000 sound records, with its rate: one. Writers and a reader,
# killed 1000 times: one. Power cuts, 200000 states: some.
.PHONY: campaign-rotation campaign-check campaign-kills campaign-powercut
campaign-rotation:
	+@$(SUB) $(BUILD)/tests/stress/rotation_test
	@CREDSTORE_RECORDS=$${CREDSTORE_RECORDS:-100000} CREDSTORE_KILLS=$${CREDSTORE_KILLS:-200} \
	  $(BUILD)/tests/stress/rotation_test
campaign-check:
	+@$(SUB) $(BUILD)/tests/check_test
	@CREDSTORE_RECORDS=$${CREDSTORE_RECORDS:-100000} $(BUILD)/tests/check_test
campaign-kills:
	+@$(SUB) $(BUILD)/tests/stress/killed_test
	@CREDSTORE_KILLS=$${CREDSTORE_KILLS:-1000} $(BUILD)/tests/stress/killed_test
campaign-powercut:
	+@$(SUB) $(BUILD)/tests/stress/powercut_test
	@CREDSTORE_STATES=$${CREDSTORE_STATES:-200000} $(BUILD)/tests/stress/powercut_test

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
	+@$(SUB) CC=$(CLANG) BUILD=$(BUILD)/clang objects examples test-objects
	@BUILD='$(BUILD)' CC='$(CC)' NM='$(NM)' sh tests/check_style.sh

# ---- install ----------------------------------------------------------------------------------------

# The example is not installed, and so its page is not.
PAGES := $(sort $(filter-out man/credstore-httpd.1,$(wildcard man/*.[0-9])))
DOCS := LICENSE README.md CHANGELOG.md
LIBS_INSTALLED := $(SHARED) $(SONAME) libcredstore.so libcredstore.a
man_folder = $(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(1)))
# A page's other names: `man credstore_open` finds the page that tells of it.
other_names = sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([^ ]*\).*/\1/p' $(1) | sort -u | \
	while read -r name; do [ -e man/$$name$(suffix $(1)) ] || echo $$name$(suffix $(1)); done
.PHONY: install uninstall clean deps
install: all
	$(INSTALL) -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(PKGCONFIGDIR) $(DESTDIR)$(DOCDIR) \
	  $(DESTDIR)$(INCLUDEDIR)/credstore $(sort $(foreach page,$(PAGES),$(call man_folder,$(page))))
	$(INSTALL) -m 644 include/credstore.h $(DESTDIR)$(INCLUDEDIR)
	$(INSTALL) -m 644 include/credstore/*.h $(DESTDIR)$(INCLUDEDIR)/credstore
	$(INSTALL) -m 755 $(BUILD)/$(SHARED) $(DESTDIR)$(LIBDIR)
	ln -sf $(SHARED) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libcredstore.so
	$(INSTALL) -m 644 $(BUILD)/libcredstore.a $(DESTDIR)$(LIBDIR)
	$(INSTALL) -m 644 $(BUILD)/libcredstore.pc $(DESTDIR)$(PKGCONFIGDIR)
	$(INSTALL) -m 644 $(DOCS) $(DESTDIR)$(DOCDIR)
	set -e; $(foreach page,$(PAGES),$(INSTALL) -m 644 $(page) $(call man_folder,$(page)); \
	  for name in $$($(call other_names,$(page))); do \
	  ln -sf $(notdir $(page)) $(call man_folder,$(page))/$$name; done;)

uninstall:
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,$(LIBS_INSTALLED))
	rm -f $(DESTDIR)$(PKGCONFIGDIR)/libcredstore.pc $(DOCS:%=$(DESTDIR)$(DOCDIR)/%)
	rm -f $(HEADERS:include/%=$(DESTDIR)$(INCLUDEDIR)/%)
	set -e; $(foreach page,$(PAGES),for name in $(notdir $(page)) $$($(call other_names,$(page))); do \
	  rm -f $(call man_folder,$(page))/$$name; done;)
	rmdir $(DESTDIR)$(INCLUDEDIR)/credstore $(DESTDIR)$(DOCDIR) 2>/dev/null || true

# ---- the source as one file -------------------------------------------------------------------------
# What git tracks; in the tarball itself, what its MANIFEST lists. The same files and the same time
# (SOURCE_DATE_EPOCH, else the last commit's) make the same bytes.

DIST := libcredstore-$(VERSION)
TARBALL := $(BUILD)/$(DIST).tar.gz
DISTCHECK ?= check
.PHONY: dist distcheck
dist:
	@rm -rf $(BUILD)/dist && mkdir -p $(BUILD)/dist/$(DIST)
	@[ ! -e .git ] || git ls-files -o --exclude-standard | sed 's/^/not tracked, left out: /' >&2
	@if [ -e .git ]; then { git -c core.quotePath=off ls-files && echo MANIFEST; } | LC_ALL=C sort; \
	  else cat MANIFEST; fi > $(BUILD)/dist/$(DIST)/MANIFEST
	@grep -vxF MANIFEST $(BUILD)/dist/$(DIST)/MANIFEST | tar -cf $(BUILD)/dist/tar -T -
	@tar -xf $(BUILD)/dist/tar -C $(BUILD)/dist/$(DIST)
	@time=$${SOURCE_DATE_EPOCH:-$$(if [ -e .git ]; then git log -1 --format=%ct; \
	  else stat -c %Y MANIFEST; fi)}; \
	  LC_ALL=C tar -C $(BUILD)/dist -cf $(BUILD)/dist/tar --format=ustar --sort=name --owner=0 \
	  --group=0 --numeric-owner --mode=u+rw,go=u,go-w --mtime=@$$time $(DIST)
	@gzip -9nc $(BUILD)/dist/tar > $(TARBALL)
	@rm -rf $(BUILD)/dist && echo $(TARBALL)

# The tarball alone: it passes $(DISTCHECK), installs, leaves nothing, and makes itself again.
distcheck: dist
	@mkdir -p $(BUILD)/dist && tar -xzf $(TARBALL) -C $(BUILD)/dist
	+@$(SUB) -C $(BUILD)/dist/$(DIST) BUILD=build $(DISTCHECK)
	+@$(SUB) -C $(BUILD)/dist/$(DIST) BUILD=build DESTDIR='$(abspath $(BUILD)/dist/root)' install dist
	+@$(SUB) -C $(BUILD)/dist/$(DIST) BUILD=build DESTDIR='$(abspath $(BUILD)/dist/root)' uninstall
	@cmp $(TARBALL) $(BUILD)/dist/$(DIST)/build/$(notdir $(TARBALL))
	@left=$$(find $(BUILD)/dist/root ! -type d); [ -z "$$left" ] || { echo "left: $$left"; exit 1; }
	@echo '$(TARBALL): $(DISTCHECK), install, uninstall and dist pass from it'

.PHONY: check-root
check-root: dist
	@sh tests/check_root.sh $(TARBALL) $(abspath $(BUILD))/root $(DEPS_BUILD)

clean:
	rm -rf $(BUILD)

deps:
	@sh .ci/deps $(DEPS_BUILD) $(DEPS_CHECK)

.PHONY: FORCE
FORCE:
-include $(patsubst %.c,$(BUILD)/%.d,$(SOURCES) $(TEST_KINDS) $(EXAMPLES)) $(TABLES:.o=.d) \
  $(HTTPD_OBJECTS:.o=.d) \
  $(patsubst %,$(BUILD)/%.d,$(PROGRAMS) $(HELPERS) $(FUZZERS) tests/support tests/kind_contract tests/stress/work)

endif
