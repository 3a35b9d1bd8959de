# fzlua: `make run` and `make check` do everything, including the set-up.
#
#   all        the command, build/fzlua, and the library, build/libfzlua.a
#   run        install missing packages, build, run the main example
#   check      install missing packages, lint, build with gcc and clang, run all
#              tests, and all of them again under ASan and UBSan
#   test       the tests only, with $(CC), TEST_JOBS at once (test-c, test-lua: one half)
#   test-install  what `make install` installs, as its users have it
#   check-lua  the tests in Lua with another build of Lua 5.4: make check-lua LUA=lua-5.4.8
#   check-suite  Lua's own test-suite: make check-suite LUA_TESTS=lua-5.4.4/testes
#   lint fmt   check the code; format it with clang-format
#   doc        write doc/reference.md and doc/fzlua.3 again, from lua/meta and src/api/fzlua.h,
#              and the options in doc/fzlua.1, from lua/cli/options.lua
#   asan       the tests under ASan and UBSan
#   tsan       the tests of hosts with threads under ThreadSanitizer
#   valgrind   the tests under valgrind     cov    line coverage by gcov
#   fuzz       tests/fuzz for FUZZ_RUNS inputs
#   soak       shared objects under stress, SOAK seconds each, KILLS of runs that are resumed,
#              and the long tests
#   soak-nodes 200 dags, 20 streams and maps on nodes that are killed, over ssh and NATS
#   soak-faults  each call to the system or to libnats fails once on nodes and in gateways
#   bench      measured speeds beside the machine's limits: make bench ROWS="start encode"
#   install  uninstall   see tools/package.mk for the places     dist  deb   the packages
#   compile_commands.json  clean
#
# The caller may set CC, CFLAGS, LDFLAGS, BUILD, PREFIX and DESTDIR. V=1 shows commands.
# RAWARRAY=0 builds without direct access to Lua's tables: see src/value/rawarray.h.

CC       ?= cc
CFLAGS   ?= -O2 -g
PREFIX   ?= /usr/local
BUILD    ?= build
VERSION  := 0.1.0

PKG_CONFIG ?= pkg-config
LUA_PC     := $(firstword $(foreach p,lua5.4 lua-5.4 lua54 lua,$(shell $(PKG_CONFIG) --exists '$p >= 5.4' 2>/dev/null && echo $p)))
LUA_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(LUA_PC) 2>/dev/null)

# Static libraries if they are installed, so that the command needs no other file.
static      = $(filter /%,$(shell $(CC) -print-file-name=$1 2>/dev/null))
LUA_LIBS   := $(or $(call static,liblua5.4.a),$(shell $(PKG_CONFIG) --libs $(LUA_PC) 2>/dev/null))
ifeq ($(origin LUA),command line) # a directory with another build of Lua
LUA_CFLAGS := -I$(dir $(or $(firstword $(wildcard $(addprefix $(LUA)/,lua.h src/lua.h include/lua.h \
	include/*/lua.h))),$(error no lua.h in $(LUA))))
LUA_LIBS   := $(or $(firstword $(wildcard $(addsuffix /liblua*.a,$(LUA) $(LUA)/src $(LUA)/lib))), \
	$(error no liblua.a in $(LUA)))
endif
TEXT_LIBS  := $(or $(call static,libutf8proc.a),$(shell $(PKG_CONFIG) --libs libutf8proc 2>/dev/null))
# SHA-256, for --allow.
MD_LIBS    := $(or $(call static,libmd.a),$(shell $(PKG_CONFIG) --libs libmd 2>/dev/null))
# Line editing, in the command alone. As a static library it needs those behind it.
EDIT_LIBS  := $(or $(and $(call static,libedit.a),$(foreach l,edit tinfo bsd md,$(call static,lib$l.a))), \
	$(shell $(PKG_CONFIG) --libs libedit 2>/dev/null))

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wwrite-strings -Wcast-qual -Wvla -Wundef -Wformat=2 \
	-Wimplicit-fallthrough
OWN_CFLAGS := -std=c11 $(WARN) -fPIC -fvisibility=hidden -MMD -MP -Isrc $(LUA_CFLAGS) \
	-DFZLUA_VERSION='"$(VERSION)"' $(if $(filter 0,$(RAWARRAY)),-DFZ_RAWARRAY=0)
ALL_CFLAGS  = $(OWN_CFLAGS) $(CPPFLAGS) $(CFLAGS)
# The command contains and exports the whole Lua library, so that C modules load.
# Symbols are bound at the start, because each worker would bind them again, with
# page faults. Most are in libc, so libc is searched before libm.
LUA_MAIN   := $(patsubst %.a,$(BUILD)/liblua.a,$(LUA_LIBS))
MAIN_LIBS  := -Wl,-z,now -lc -Wl,--export-dynamic -Wl,--whole-archive $(LUA_MAIN) \
	-Wl,--no-whole-archive $(EDIT_LIBS) $(TEXT_LIBS) $(MD_LIBS) -lm -ldl -lpthread
# For the gateway to NATS, which is built only where libnats is.
NATS_LIBS  := $(shell $(PKG_CONFIG) --libs libnats 2>/dev/null)
TEST_LIBS  := $(LUA_LIBS) $(TEXT_LIBS) $(MD_LIBS) -lcmocka -lm -ldl -lpthread
comma      := ,

# Print the target; with V=1 make prints the command instead.
say = $(if $(V),,@printf '  %-5s %s\n' $1 $(or $2,$@);)

COMMAND := $(sort $(wildcard src/cli/*.c))
GATEWAY := $(sort $(wildcard src/gateway/*.c))
SRC     := $(filter-out $(COMMAND) $(GATEWAY),$(sort $(wildcard src/*/*.c src/*/*/*.c)))
# Modules, and texts that are modules as well. Those that each start loads are adjacent, so that
# they are on few pages.
STARTED := lua/fzlua.lua lua/core/error.lua $(patsubst %,lua/cli/%.lua,cli command_line lua_options messages script)
MODULES := $(STARTED) $(filter-out lua/meta/% $(STARTED),$(sort $(wildcard lua/*.lua lua/*/*.lua))) \
	doc/reference.md $(sort $(wildcard lua/report/page_*))
TESTS_C := $(sort $(wildcard tests/test_*.c tests/*/test_*.c))
TESTS_LUA ?= $(wildcard tests/killed/test_*.lua) \
	$(sort $(filter-out tests/killed/% tests/package/%,$(wildcard tests/test_*.lua tests/*/test_*.lua)))
SUPPORT := $(filter-out %/runner.c %/processes.c %/ltest.c %/faulty.c,$(wildcard tests/support/*.c))
FAULTY  := $(addprefix $(BUILD)/tests/faulty/,fzlua $(if $(NATS_LIBS),fzlua-nats))
RUNNING := $(BUILD)/tests/runner $(BUILD)/tests/ltest.so $(BUILD)/fzlua-uninstalled.pc $(FAULTY)
FUZZ_C  := $(sort $(wildcard tests/fuzz/*.c))
OBJ     := $(SRC:src/%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/modules.o
TESTBIN := $(TESTS_C:tests/%.c=$(BUILD)/tests/%)
EMBEDBIN := $(patsubst examples/%,$(BUILD)/examples/%,$(basename $(wildcard examples/embed/*.c)) \
	$(addsuffix _cpp,$(basename $(wildcard examples/embed/*.cpp))))
FUZZBIN := $(FUZZ_C:tests/%.c=$(BUILD)/tests/%)
LIB     := $(BUILD)/libfzlua.a
BIN     := $(BUILD)/fzlua
NATS    := $(if $(NATS_LIBS),$(BUILD)/fzlua-nats)
C_FILES := $(sort $(wildcard src/*/*.[ch] src/*/*/*.[ch] tests/*.[ch] tests/*/*.[ch] tools/*.[ch] bench/*.[ch] \
	examples/*.[ch]))

COMPLETIONS := $(addprefix $(BUILD)/completions/,fzlua.bash _fzlua)

all: $(BIN) $(NATS) $(LIB) $(COMPLETIONS)
tests: $(TESTBIN) $(FUZZBIN) $(RUNNING) $(EMBEDBIN)

# This file changes with the compiler, the flags and the list of files, so that
# the targets that depend on it are built again.
$(BUILD)/flags: export FLAGS = $(CC) $(ALL_CFLAGS) $(LDFLAGS) $(MAIN_LIBS) $(SRC)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$$FLAGS" | cmp -s - $@ || printf '%s\n' "$$FLAGS" > $@

$(BIN): $(COMMAND:src/%.c=$(BUILD)/obj/%.o) $(LIB) | $(filter %.a,$(LUA_MAIN))
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(MAIN_LIBS)

$(BUILD)/fzlua-nats: $(GATEWAY:src/%.c=$(BUILD)/obj/%.o) $(LIB)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(NATS_LIBS) -lpthread

# The interpreter loop is up to 10 % slower at another address modulo 64, which each
# change of our code would move.
$(BUILD)/liblua.a: $(LUA_LIBS) $(BUILD)/flags
	$(call say,ALIGN)objcopy --set-section-alignment .text=64 $< $@

$(LIB): $(OBJ)
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $^

$(BUILD)/obj/%.o: src/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Workers that a host starts are the installed command. Only this file knows the
# prefix, so that "make install" with another one compiles little.
$(BUILD)/prefix: export TEXT = $(PREFIX)
$(BUILD)/prefix: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$$TEXT" | cmp -s - $@ || printf '%s\n' "$$TEXT" > $@
$(BUILD)/obj/proc/start.o: $(BUILD)/prefix
$(BUILD)/obj/proc/start.o: private ALL_CFLAGS += -DFZLUA_COMMAND='"$(PREFIX)/bin/fzlua"'

# The Lua modules as compiled bytes, with line numbers, in a C file. The list of
# modules is a file, so that a removed module disappears, too.
$(BUILD)/modules: export LIST = $(MODULES)
$(BUILD)/modules: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$$LIST" | cmp -s - $@ || printf '%s\n' "$$LIST" > $@
$(BUILD)/embed: tools/embed.c $(BUILD)/flags
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $< $(LUA_LIBS) -lm -ldl
$(BUILD)/obj/modules.c: $(BUILD)/embed $(BUILD)/modules $(MODULES)
	@mkdir -p $(@D)
	$(call say,EMBED)$(BUILD)/embed $(MODULES) > $@.new && mv $@.new $@
$(BUILD)/obj/modules.o: $(BUILD)/obj/modules.c
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# The command itself prints its completions. It does not run if it is built for another machine.
$(COMPLETIONS): $(BIN) tools/options.lua
	@mkdir -p $(@D)
	$(call say,MAKE)$(BIN) tools/options.lua $(if $(filter %.bash,$@),bash,zsh) > $@

TESTLIB := $(BUILD)/tests/support.a
$(TESTLIB): $(SUPPORT:tests/%.c=$(BUILD)/tests/%.o)
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $^
$(BUILD)/tests/support/%.o: tests/support/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Support whose header a test includes is linked before the rest of the support, so that
# its functions are what calls are wrapped with.
included = $(patsubst %,$(BUILD)/tests/support/%.o,$(filter $(notdir $(SUPPORT:.c=)), \
	$(shell sed -n 's/^#include "\([a-z_]*\)\.h"$$/\1/p' $1)))

# A test names the functions that it makes fail: "wrap: fork read write".
wrapped = $(addprefix -Wl$(comma)--wrap=,$(shell sed -n 's/^ \* wrap: //p' $1))
# The command is no library; a part of it that a test needs is linked by name.
$(BUILD)/tests/cli/test_edit_rows: $(BUILD)/obj/cli/edit_rows.o
$(BUILD)/tests/cli/test_edit_tty: $(BUILD)/obj/cli/edit_tty.o
$(BUILD)/tests/cli/test_join: $(BUILD)/obj/cli/join.o
$(BUILD)/tests/gateway/test_server_name: $(BUILD)/obj/gateway/server_name.o
$(BUILD)/tests/gateway/test_listener: $(patsubst %,$(BUILD)/obj/gateway/%.o,listener relay gateway)
$(BUILD)/tests/gateway/test_lease: $(patsubst %,$(BUILD)/obj/gateway/%.o,lease beat gateway)
$(TESTBIN): $(BUILD)/tests/%: tests/%.c $(TESTLIB) $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) -Itests/support $(LDFLAGS) $(call wrapped,$<) -o $@ $< $(filter %.o,$^) $(call included,$<) \
	    $(TESTLIB) $(LIB) $(TEST_LIBS)
$(FUZZBIN): $(BUILD)/tests/%: tests/%.c $(TESTLIB) $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) -Itests/support -DFZ_FUZZ_MAIN $(LDFLAGS) -o $@ $< \
	    $(TESTLIB) $(LIB) $(TEST_LIBS)
# The programs with calls that fail: see tests/support/faulty.c. Lua is its own library, whose
# calls do not fail.
$(BUILD)/tests/faulty/fzlua: $(COMMAND:src/%.c=$(BUILD)/obj/%.o) tests/support/faulty.c $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(call wrapped,tests/support/faulty.c) -o $@ $^ $(EDIT_LIBS) \
	    $(shell $(PKG_CONFIG) --libs $(LUA_PC)) $(TEXT_LIBS) $(MD_LIBS) -lm -ldl -lpthread
$(BUILD)/tests/faulty/fzlua-nats: $(GATEWAY:src/%.c=$(BUILD)/obj/%.o) tests/support/faulty.c $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) -DFAULTY_NATS $(LDFLAGS) $(call wrapped,tests/support/faulty.c) -o $@ $^ $(NATS_LIBS) -lpthread
$(BUILD)/tests/runner: tests/support/runner.c tests/support/processes.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c,$^)
$(BUILD)/tests/ltest.so: tests/support/ltest.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) -fvisibility=default -shared $(LDFLAGS) -o $@ $<

# The examples for hosts see what the installed header shows, and no more.
EMBED_CFLAGS = -Wall -Wextra -Wpedantic -Isrc/api $(LUA_CFLAGS) $(CFLAGS) $(LDFLAGS)
$(BUILD)/examples/embed/%: examples/embed/%.c $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) -std=c11 $(EMBED_CFLAGS) -o $@ $< $(LIB) $(LUA_LIBS) $(TEXT_LIBS) $(MD_LIBS) -lm -ldl -lpthread
$(BUILD)/examples/embed/%_cpp: examples/embed/%.cpp $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK)$(CXX) -std=c++17 $(EMBED_CFLAGS) -o $@ $< $(LIB) $(LUA_LIBS) $(TEXT_LIBS) $(MD_LIBS) -lm -ldl -lpthread

# For programs that are built with the library where it is: pkg-config prefers this name.
define UNINSTALLED_PC
Name: fzlua
Description: Parallel pipelines in Lua
Version: $(VERSION)
Cflags: -I$(CURDIR)/src/api $(LUA_CFLAGS) $(CFLAGS)
Libs: $(LDFLAGS) $(abspath $(LIB)) $(LUA_LIBS) $(TEXT_LIBS) $(MD_LIBS) -lm -ldl -lpthread
endef
$(BUILD)/fzlua-uninstalled.pc: export TEXT = $(UNINSTALLED_PC)
$(BUILD)/fzlua-uninstalled.pc: $(BUILD)/flags
	@printf '%s\n' "$$TEXT" > $@

$(BUILD)/bench/engine: bench/engine.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $< $(NATS_LIBS)

$(BUILD)/bench/limits.so: bench/limits.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) -fvisibility=default -shared $(LDFLAGS) -o $@ $<

-include $(wildcard $(BUILD)/*.d $(BUILD)/obj/*.d $(BUILD)/obj/*/*.d $(BUILD)/obj/*/*/*.d \
	$(BUILD)/tests/*.d $(BUILD)/tests/*/*.d)

# A second make, because packages are looked up when make starts, before the set-up
# installs them.
run:
	@.ci/setup run
	@$(MAKE) --no-print-directory all
	@examples/show $(BIN)

check:
	@.ci/setup check
	@.ci/check

# Test programs run in parallel, each with a log in $(BUILD)/tests/log: two more than
# there are processors, because tests often wait. Each runs under the program UNDER,
# a checker such as valgrind.
TEST_JOBS ?= $(shell expr $$(nproc) + 2)
by_c   = $(foreach t,$(TESTBIN),'$(UNDER) $t')
by_lua = $(foreach t,$(TESTS_LUA),'$(UNDER) $(BIN) tests/run.lua $t')
runner = @mkdir -p $(BUILD)/tests/log; MAKEFLAGS= FZLUA=$(abspath $(BIN)) \
	$(BUILD)/tests/runner $(TEST_JOBS) $${FZLUA_TEST_LIMIT:-60} $(BUILD)/tests/log

test: $(BIN) tests
	$(runner) $(by_lua) $(by_c)
test-c: $(BIN) tests
	$(runner) $(by_c)
test-lua: $(BIN) $(RUNNING) $(EMBEDBIN)
	$(runner) $(by_lua)

# With workers behind byte streams: see src/worker/link.h.
test-lua-stream: export FZLUA_LINK := stream
test-lua-stream:
	+$(MAKE) --no-print-directory test-lua TESTS_LUA='$(filter-out %/test_memory.lua,$(wildcard \
	    tests/pool/test_*.lua tests/killed/test_pool*.lua tests/pipeline/test_chain.lua \
	    tests/pipeline/test_stream*.lua))'

# With workers that are programs: see src/proc/start.h and tests/spawn_skips.lua.
test-lua-spawn: export FZLUA_START := spawn
test-lua-spawn:
	+$(MAKE) --no-print-directory test-lua TESTS_LUA='$(filter-out %/test_memory.lua %/test_imap.lua %/test_pool_values.lua,$(wildcard \
	    tests/pool/test_*.lua tests/killed/test_pool*.lua tests/pipeline/test_chain.lua \
	    tests/pipeline/test_errors.lua tests/pipeline/test_nested.lua tests/pipeline/test_stream*.lua tests/shared/test_queue.lua \
	    tests/process/test_child.lua tests/process/test_process.lua tests/manager/test_*.lua))'

# Without direct access to Lua's tables: see src/value/rawarray.h.
test-lua-noraw: export FZLUA_RAWARRAY := 0
test-lua-noraw:
	+$(MAKE) --no-print-directory test-lua TESTS_LUA='$(wildcard $(addprefix tests/pool/test_, \
	    map.lua rawarray.lua functions.lua))'

# Tests require the modules of the installed lua5.4.
check-lua:
	$(if $(LUA),,$(error LUA=dir: where lua.h and liblua.a are))
	+LUA_PATH="$$(lua5.4 -e 'io.write(package.path)')" LUA_CPATH="$$(lua5.4 -e 'io.write(package.cpath)')" \
	    $(MAKE) --no-print-directory BUILD=build/lua LUA='$(LUA)' test-lua

# Lua's own test-suite, whose version must be that of the linked Lua: the portable part.
check-suite: $(BIN)
	$(if $(LUA_TESTS),,$(error LUA_TESTS=dir: the test-suite of Lua))
	cd $(LUA_TESTS) && $(abspath $(BIN)) -e '_U = true' all.lua && $(abspath $(BIN) tools/suite_main.lua)

FUZZ_RUNS ?= 5000000
SANITIZE  := -O1 -g -Werror -fno-omit-frame-pointer \
	-fsanitize=address,undefined -fno-sanitize-recover=all
# Less freed memory is kept than by default (256 MB), because each fork copies its pages' tables.
ASAN := ASAN_OPTIONS=$${ASAN_OPTIONS-detect_leaks=1:quarantine_size_mb=32:malloc_context_size=12} UBSAN_OPTIONS=print_stacktrace=1 \
	$(MAKE) --no-print-directory BUILD=build/asan CC=gcc CFLAGS='$(SANITIZE)'

asan: asan-build
	+$(ASAN) test
asan-build:
	+$(ASAN) all tests

# The tests of hosts with threads, without test_host_killed: a signal handler runs at the
# next call of the C library here, so that a busy worker does not notice that its host has died.
# Beside threads workers are spawned, because the allocator of TSan may be locked in a fork.
# TSan does not know fences (-Wno-tsan) and random addresses of some kernels (setarch).
TSAN_TESTS ?= $(addprefix api/test_,guest host host_forks host_spawn instances interrupt) \
    shared/test_queue_threads
TSAN_BIN    = $(TSAN_TESTS:%=$(BUILD)/tests/%) $(BUILD)/examples/embed/threads
tsan:
	+FZLUA_WORKER_COMMAND=$(CURDIR)/build/tsan/fzlua \
	    TSAN_OPTIONS='die_after_fork=0 suppressions=$(CURDIR)/tests/tsan.supp' \
	    $(MAKE) --no-print-directory BUILD=build/tsan CC=gcc \
	    CFLAGS='-O1 -g -Werror -Wno-tsan -fno-omit-frame-pointer -fsanitize=thread' tsan-here
tsan-here: UNDER := $(shell setarch -R true 2>/dev/null && echo setarch -R)
tsan-here: $(BIN) $(BUILD)/tests/runner $(TSAN_BIN)
	$(runner) $(foreach t,$(TSAN_BIN),'$(UNDER) env $(if $(filter %/threads,$t),FZLUA_START=spawn) $t')

fuzz:
	+$(ASAN) fuzz-here FUZZ_RUNS=$(FUZZ_RUNS)
fuzz-here: $(FUZZBIN) $(BIN)
	@set -e; for f in $(FUZZBIN) '$(BIN) tests/fuzz/fuzz_json.lua'; do \
	    echo "$$f $(FUZZ_RUNS)"; $$f $(FUZZ_RUNS); done

SOAK ?= 10
KILLS ?= 50
soak:
	+FZLUA_SOAK=$(SOAK) FZLUA_LONG=1 FZLUA_TEST_LIMIT=600 $(MAKE) --no-print-directory test-lua \
	    TESTS_LUA='$(wildcard tests/killed/test_soak.lua tests/*/test_queue*.lua)'
	+FZLUA_KILLS=$(KILLS) FZLUA_TEST_LIMIT=600 $(MAKE) --no-print-directory test-lua \
	    TESTS_LUA=tests/killed/test_resume_killed.lua

# Dags, streams and maps on nodes that are killed, one each second.
soak-nodes: $(BIN)
	FZLUA=$(abspath $(BIN)) FZLUA_LONG=1 $(BIN) tests/run.lua tests/killed/test_nodes_killed.lua

# Each call fails once: see tests/support/faulty.c.
soak-faults: $(BIN) $(NATS) $(FAULTY)
	FZLUA=$(abspath $(BIN)) FZLUA_LONG=1 $(BIN) tests/run.lua tests/node/test_node_faults.lua

valgrind:
	+$(MAKE) --no-print-directory BUILD=build/valgrind CFLAGS='-O1 -g -DFZ_VALGRIND' \
	    all test UNDER=.ci/valgrind FZLUA_TEST_LIMIT=1200

cov:
	rm -rf build/cov
	+$(MAKE) --no-print-directory BUILD=build/cov CC=gcc LDFLAGS=--coverage \
	    CFLAGS='-O0 -g --coverage -DFZ_COVERAGE' all tests
	+-$(MAKE) --no-print-directory -k BUILD=build/cov CC=gcc LDFLAGS=--coverage \
	    CFLAGS='-O0 -g --coverage -DFZ_COVERAGE' test >build/cov/log 2>&1
	@for f in $(SRC) $(COMMAND); do \
	    o=build/cov/obj/$${f#src/}; \
	    gcov -n -o $${o%.c}.gcda $$f 2>/dev/null | \
	        awk -v file=$$f 'index($$0, "File") { own = index($$0, "\047" file "\047") } \
	            own && sub(/Lines executed:/, "") { printf "%s\t%s\n", file, $$0; exit }'; \
	done | awk -F'\t' '{ split($$2, p, "% of "); hit += p[1] * p[2] / 100; all += p[2]; \
	        printf "%6.1f %%  of %5d  %s\n", p[1], p[2], $$1 } \
	    END { if (all) printf "%6.1f %%  of %5d  all\n", 100 * hit / all, all }'

bench:
	@.ci/setup bench
	@$(MAKE) --no-print-directory bench-here
bench-here: $(BIN) $(BUILD)/bench/limits.so
	@$(BIN) bench/run.lua $(BUILD) $(if $(filter 1,$(STRICT)),--strict) $(ROWS)

lint: lint-format lint-lua lint-cppcheck lint-layers lint-statics lint-doc lint-version
lint-format:
	clang-format --dry-run -Werror $(C_FILES)
lint-lua:
	luacheck -q $(wildcard lua tests tools examples bench)
lint-cppcheck:
	cppcheck -q --std=c11 --language=c --error-exitcode=1 --inline-suppr \
	    --enable=warning,performance,portability --suppress=missingIncludeSystem \
	    -Isrc '-DFZLUA_VERSION="$(VERSION)"' -DLUA_VERSION_NUM=504 src
lint-layers:
	CC='$(CC)' LAYER_CFLAGS='$(LUA_CFLAGS)' lua5.4 tools/layers.lua

# The library alone: the command may have statics.
lint-statics: $(LIB)
	lua5.4 tools/statics.lua $(LIB)

# What is made from annotations and comments is in the repository, so that it can be read there.
doc: $(BIN)
	lua5.4 tools/reference.lua .
	lua5.4 tools/manpage.lua .
	$(BIN) tools/options.lua man doc/fzlua.1
lint-doc: $(BIN)
	lua5.4 tools/reference.lua --check .
	lua5.4 tools/manpage.lua --check .
	$(BIN) tools/options.lua check doc/fzlua.1

lint-version:
	lua5.4 tools/version.lua $(VERSION)

fmt:
	clang-format -i $(C_FILES)

# For editors and clang tools.
compile_commands.json: export FLAGS = $(subst ",\",$(ALL_CFLAGS))
compile_commands.json: FORCE
	@{ echo '['; separator=; \
	for f in $(SRC) $(COMMAND) $(TESTS_C); do \
	    printf '%s{"directory": "%s", "file": "%s", "command": "%s %s -c %s"}' \
	        "$$separator" "$(CURDIR)" "$$f" "$(CC)" "$$FLAGS" "$$f"; \
	    separator=$$(printf ',\nx'); separator=$${separator%x}; \
	done; printf '\n]\n'; } > $@

include tools/package.mk

clean:
	rm -rf $(BUILD) compile_commands.json

FORCE:
.PHONY: all tests run check check-lua check-suite test test-c test-lua test-lua-spawn test-lua-stream test-lua-noraw \
	asan asan-build tsan tsan-here fuzz fuzz-here soak soak-nodes soak-faults valgrind cov bench bench-here lint lint-format lint-lua lint-cppcheck lint-layers \
	lint-statics lint-doc lint-version doc fmt clean FORCE
.DELETE_ON_ERROR:
