# package.mk: what is installed, and the packages. The Makefile includes it.
#
# The caller may set PREFIX, DESTDIR, and where a system has other places: LIBDIR, LUA_CMOD
# for the module of lua5.4, ZSHDIR for the completions of zsh.

LIBDIR   ?= $(PREFIX)/lib
LUA_CMOD ?= $(LIBDIR)/lua/5.4
ZSHDIR   ?= $(PREFIX)/share/zsh/site-functions
LDCONFIG ?= ldconfig

SONAME := libfzlua.so.$(firstword $(subst ., ,$(VERSION)))
SHARED := $(BUILD)/libfzlua.so.$(VERSION)
MODULE := $(BUILD)/fzlua.so
PC     := $(BUILD)/fzlua.pc

# The library and the module stay loaded until the process ends: its fork handlers and its list of
# children outlive a Lua state.
SO_FLAGS  = -shared -Wl,-z,now -Wl,-z,nodelete
TEXT_SO  := $(shell $(PKG_CONFIG) --libs libutf8proc libmd 2>/dev/null)
SYS_LIBS := -lm -ldl -lpthread

shared: $(SHARED)
module: $(MODULE)

$(SHARED): $(OBJ)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(SO_FLAGS) -Wl,-z,defs -Wl,-soname,$(SONAME) -o $@ $^ \
	    $(shell $(PKG_CONFIG) --libs $(LUA_PC)) $(TEXT_SO) $(SYS_LIBS)

# The module is linked without Lua, because it uses the functions of the interpreter that loads it.
$(MODULE): $(OBJ)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(SO_FLAGS) -o $@ $^ $(TEXT_SO) $(SYS_LIBS)

# A host calls Lua itself, so it also needs Lua's headers and library.
below = $(patsubst $(PREFIX)/%,$${prefix}/%,$1)
define PC_TEXT
prefix=$(PREFIX)
libdir=$(call below,$(LIBDIR))
includedir=$${prefix}/include

Name: fzlua
Description: Parallel pipelines in Lua
Version: $(VERSION)
Requires: $(LUA_PC)
Requires.private: libutf8proc libmd
Libs: -L$${libdir} -lfzlua
Libs.private: $(SYS_LIBS)
Cflags: -I$${includedir}
endef
$(PC): export TEXT = $(PC_TEXT)
$(PC): FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$$TEXT" | cmp -s - $@ || printf '%s\n' "$$TEXT" > $@

# What is installed, as source=place.
DOC   := README.md CHANGELOG.md LICENSE $(wildcard doc/*.md)
SHARE  = $(PREFIX)/share
FILES  = $(BIN)=$(PREFIX)/bin/fzlua \
	$(if $(NATS),$(NATS)=$(PREFIX)/bin/fzlua-nats) \
	$(LIB)=$(LIBDIR)/libfzlua.a \
	$(SHARED)=$(LIBDIR)/$(notdir $(SHARED)) \
	$(PC)=$(LIBDIR)/pkgconfig/fzlua.pc \
	$(MODULE)=$(LUA_CMOD)/fzlua.so \
	src/api/fzlua.h=$(PREFIX)/include/fzlua.h \
	$(foreach f,$(wildcard doc/*.[13]),$f=$(SHARE)/man/man$(patsubst .%,%,$(suffix $f))/$(notdir $f)) \
	$(foreach f,$(wildcard lua/meta/*.lua),$f=$(SHARE)/fzlua/meta/$(notdir $f)) \
	$(foreach f,$(COMPLETIONS),$f=$(if $(filter %.bash,$f),$(SHARE)/bash-completion/completions/fzlua,$(ZSHDIR)/_fzlua)) \
	$(foreach f,$(DOC),$f=$(SHARE)/doc/fzlua/$(notdir $f))
PLACES = $(foreach f,$(FILES),$(lastword $(subst =, ,$f)))
LINKS  = $(LIBDIR)/$(SONAME) $(LIBDIR)/libfzlua.so

# As root, tell the linker of programs about the new library.
install: all $(SHARED) $(MODULE) $(PC)
	@set -e; for file in $(FILES); do \
	    install -D -m 644 "$${file%%=*}" "$(DESTDIR)$${file#*=}"; done
	@chmod 755 "$(DESTDIR)$(PREFIX)/bin/fzlua" $(if $(NATS),"$(DESTDIR)$(PREFIX)/bin/fzlua-nats")
	@for link in $(LINKS); do ln -sf $(notdir $(SHARED)) "$(DESTDIR)$$link"; done
	$(if $(DESTDIR),,-@$(LDCONFIG) 2>/dev/null || :)

# For LuaRocks, which sets LUA_CMOD.
install-module: $(MODULE)
	install -D -m 644 $(MODULE) $(DESTDIR)$(LUA_CMOD)/fzlua.so

uninstall:
	@for file in $(PLACES) $(LINKS); do rm -f "$(DESTDIR)$$file"; done
	-@cd "$(DESTDIR)$(SHARE)" && rmdir fzlua/meta fzlua doc/fzlua

# Tests of the installed files: lua5.4 with the module, C hosts with pkg-config.
STAGE := $(abspath $(BUILD))/stage
test-install: export FZLUA_STAGE := $(STAGE)
test-install: export LUA_CPATH := $(STAGE)/lib/lua/5.4/?.so;;
test-install: export PKG_CONFIG_PATH := $(STAGE)/lib/pkgconfig
test-install: export LD_LIBRARY_PATH := $(STAGE)/lib
test-install: $(RUNNING)
	@rm -rf $(STAGE) $(STAGE)-dest
	+@$(MAKE) -s install PREFIX=/usr DESTDIR=$(STAGE)-dest
	@cd $(STAGE)-dest/usr && find . ! -type d | sort >../installed
	+@$(MAKE) -s uninstall PREFIX=/usr DESTDIR=$(STAGE)-dest
	+@$(MAKE) -s install PREFIX=$(STAGE) LDCONFIG=:
	+@PATH=$(STAGE)/bin:$$PATH $(MAKE) -s test-lua TESTS_LUA='$(wildcard tests/package/test_*.lua)'

# An archive of the files of the last commit, which has the same bytes each time.
DIST := fzlua-$(VERSION)
dist:
	@mkdir -p $(BUILD)
	git archive --format=tar.gz -9 --prefix=$(DIST)/ -o $(BUILD)/$(DIST).tar.gz HEAD

# The packages of Debian, in $(BUILD)/deb, from `make dist`. The tests are those of `make check`.
deb: dist
	@.ci/setup package
	@rm -rf $(BUILD)/deb
	@mkdir $(BUILD)/deb
	tar -C $(BUILD)/deb -xzf $(BUILD)/$(DIST).tar.gz
	cd $(BUILD)/deb/$(DIST) && env -u MAKEFLAGS -u MFLAGS DEB_BUILD_OPTIONS=nocheck \
	    dpkg-buildpackage -us -uc -jauto >../log 2>&1 || { tail -n 40 ../log; exit 1; }
	lintian --fail-on error --info $(BUILD)/deb/*.changes

.PHONY: shared module install install-module uninstall test-install dist deb
