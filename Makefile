# fzlua: `make run` and `make check` do everything, set-up included.
#
#   all        the command, build/fzlua, and the library, build/libfzlua.a
#   run        install what is missing, build, run the main example
#   check      install what is missing, build with gcc and clang, lint, all tests,
#              and all of them again under ASan and UBSan
#   test       the tests alone, with the compiler at hand
#   lint fmt   judge the code; let clang-format write it
#   valgrind   the tests under valgrind     cov      line coverage by gcov
#   bench      speeds beside the machine's limits: make bench ROWS="start encode"
#   install uninstall clean
#
# CC, CFLAGS, LDFLAGS, PREFIX and DESTDIR are yours to set.

CC       ?= cc
CFLAGS   ?= -O2 -g
PREFIX   ?= /usr/local
BUILD    ?= build
VERSION  := 0.1.0

PKG_CONFIG ?= pkg-config
LUA_PC     := $(firstword $(foreach p,lua5.4 lua-5.4 lua54 lua,$(shell $(PKG_CONFIG) --exists '$p >= 5.4' 2>/dev/null && echo $p)))
LUA_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(LUA_PC) 2>/dev/null)

# The static libraries where they are installed, so that the command runs alone.
static      = $(filter /%,$(shell $(CC) -print-file-name=$1))
LUA_LIBS   := $(or $(call static,liblua5.4.a),$(shell $(PKG_CONFIG) --libs $(LUA_PC) 2>/dev/null))
JSON_LIBS  := $(or $(call static,libjansson.a),$(shell $(PKG_CONFIG) --libs jansson 2>/dev/null))

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wwrite-strings -Wcast-qual -Wvla -Wundef -Wformat=2 \
	-Wimplicit-fallthrough
ALL_CFLAGS := -std=c11 $(WARN) -fvisibility=hidden -MMD -MP -Isrc $(LUA_CFLAGS) \
	-DFZLUA_VERSION='"$(VERSION)"' $(CFLAGS)
# The whole Lua library is in the command and visible, so that C modules load.
MAIN_LIBS  := -Wl,--export-dynamic -Wl,--whole-archive $(LUA_LIBS) \
	-Wl,--no-whole-archive $(JSON_LIBS) -lm -ldl -lpthread
TEST_LIBS  := $(LUA_LIBS) $(JSON_LIBS) -lcmocka -lm -ldl -lpthread

SRC     := $(sort $(wildcard src/*/*.c)) src/fzlua.c
HDR     := $(sort $(wildcard src/*.h src/*/*.h))
LUA     := $(sort $(wildcard lua/*.lua))
TESTS_C := $(sort $(wildcard tests/test_*.c))
OBJ     := $(SRC:src/%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/modules.o
TESTBIN := $(TESTS_C:tests/%.c=$(BUILD)/tests/%)
LIB     := $(BUILD)/libfzlua.a
BIN     := $(BUILD)/fzlua

all: $(BIN) $(LIB)

$(BIN): $(BUILD)/obj/main.o $(LIB)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(MAIN_LIBS)

$(LIB): $(OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# The Lua modules as bytes in a C file, compiled but with their line numbers.
$(BUILD)/embed: src/embed.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $< $(LUA_LIBS) -lm -ldl
$(BUILD)/obj/modules.c: $(BUILD)/embed $(LUA)
	@mkdir -p $(@D)
	$(BUILD)/embed $(LUA) > $@.new && mv $@.new $@
$(BUILD)/obj/modules.o: $(BUILD)/obj/modules.c
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# A test that forces a call to fail names it: "wrap: fork read write".
$(BUILD)/tests/%: tests/%.c $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(addprefix -Wl$(comma)--wrap=,$(shell sed -n 's/^ \* wrap: //p' $<)) \
	    -o $@ $< $(LIB) $(TEST_LIBS)
comma := ,

-include $(wildcard $(BUILD)/obj/*.d $(BUILD)/obj/*/*.d $(BUILD)/tests/*.d)

# The limits are a C module that the command loads. STRICT=1: a MISS fails.
.PHONY: bench
bench: $(BIN) $(BUILD)/bench/limits.so
	@$(BIN) bench/run.lua $(BUILD) $(if $(filter 1,$(STRICT)),--strict) $(ROWS)
$(BUILD)/bench/limits.so: bench/limits.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -fPIC -shared $(LDFLAGS) -o $@ $<

clean:
	rm -rf $(BUILD)

.PHONY: all clean
.DELETE_ON_ERROR:
