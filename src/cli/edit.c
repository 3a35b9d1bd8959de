/* for newlocale and wcwidth, POSIX functions that -std=c11 hides */
#define _GNU_SOURCE
#include "cli/edit.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include <lauxlib.h>

#include "base/container.h"
#include "bind/linterrupt.h"
#include "bind/lloop.h"
#include "bind/lsink.h"
#include "cli/edit_keys.h"
#include "cli/edit_rows.h"
#include "cli/edit_state.h"
#include "cli/edit_tty.h"
#include "cli/interrupt.h"
#include "os/term.h"
#include "value/luserdata.h"

#define EDITOR_TYPE "fzlua.Editor"

enum { HISTORY_ENTRIES = 1000 };

/* This byte comes before and after each control sequence in a prompt. */
#define LITERAL '\1'

struct fz_edit *
fz_edit_of(EditLine *el)
{
	struct fz_edit *e = NULL;

	el_get(el, EL_CLIENTDATA, &e);
	return e;
}

/* call_back(editor, name, line | NULL): call the callback with this name */
static int
call_back(lua_State *L)
{
	const LineInfo *line = lua_touserdata(L, 3);
	int n = 0;

	lua_rawgetp(L, LUA_REGISTRYINDEX, lua_touserdata(L, 1));
	lua_getfield(L, -1, lua_touserdata(L, 2));
	if (line != NULL) {
		lua_pushlstring(
		    L, line->buffer, (size_t)(line->cursor - line->buffer));
		lua_pushlstring(
		    L, line->cursor, (size_t)(line->lastchar - line->cursor));
		n = 2;
	}
	lua_call(L, n, 1);
	return 1;
}

bool
fz_edit_call(struct fz_edit *e, const char *name, const LineInfo *line)
{
	lua_State *L = e->L;
	locale_t locale = uselocale(LC_GLOBAL_LOCALE);

	lua_pushcfunction(L, call_back); /* needs no memory */
	lua_pushlightuserdata(L, e);
	lua_pushlightuserdata(L, (void *)(uintptr_t)name);
	lua_pushlightuserdata(L, (void *)(uintptr_t)line);
	e->failed = lua_pcall(L, 3, 1, 0) != LUA_OK;
	uselocale(locale);
	return !e->failed;
}

static unsigned
row_of(struct fz_edit *e, const wchar_t *end, unsigned columns)
{
	const LineInfoW *line = el_wline(e->el);
	struct fz_edit_place place = { 0, 0 };

	fz_edit_advance(&place, e->visible, e->nvisible, columns);
	fz_edit_advance(
	    &place, line->buffer, (size_t)(end - line->buffer), columns);
	return place.row;
}

static unsigned
cursor_row(struct fz_footer_input *input, unsigned columns)
{
	struct fz_edit *e = FZ_CONTAINER_OF(input, struct fz_edit, input);
	locale_t locale = uselocale(e->locale);
	unsigned row = row_of(e, el_wline(e->el)->cursor, columns);

	uselocale(locale);
	return row;
}

static void
draw(struct fz_footer_input *input)
{
	struct fz_edit *e = FZ_CONTAINER_OF(input, struct fz_edit, input);
	locale_t locale = uselocale(e->locale);

	if (fz_edit_tty_take_news().resized)
		el_resize(e->el);
	el_set(e->el, EL_REFRESH);
	uselocale(locale);
}

void
fz_edit_leave(struct fz_edit *e, const char *mark)
{
	struct fz_term_size size = { FZ_TERM_COLUMNS, FZ_TERM_ROWS };
	const LineInfoW *line = el_wline(e->el);
	unsigned down;

	fz_lsink_end_input(e->sink);
	fz_term_get_size(STDOUT_FILENO, &size);
	down = row_of(e, line->lastchar, size.columns) -
	       row_of(e, line->cursor, size.columns);
	if (down > 0)
		fprintf(stdout, "\033[%uB", down);
	fprintf(stdout, "%s\r\n", mark);
	fflush(stdout);
}

/*
 * Read a byte while the loop turns. Returns 1, 0 at the end of the input, or -1
 * after an error.
 */
static int
read_byte(struct fz_edit *e, char *byte)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	ssize_t n;

	for (;;) {
		if (fz_edit_tty_has_news())
			fz_footer_redraw(&e->sink->footer);
		if (poll(&in, 1, 0) > 0) {
			n = read(STDIN_FILENO, byte, 1);
			if (n != -1 || (errno != EINTR && errno != EAGAIN))
				return (int)n;
		}
		if (!fz_edit_call(e, "wait", NULL)) {
			fz_edit_leave(e, "^C");
			return -1;
		}
		lua_pop(e->L, 1);
	}
}

/* Return U+FFFD for bytes that are not UTF-8, and keep the byte after them. */
static wchar_t
replace_invalid(struct fz_edit *e, char byte, bool is_first)
{
	memset(&e->shift, 0, sizeof(e->shift));
	if (!is_first) {
		e->next = byte;
		e->has_next = true;
	}
	return 0xfffd;
}

/* Read a character. Called by libedit. */
static int
read_char(EditLine *el, wchar_t *c)
{
	struct fz_edit *e = fz_edit_of(el);

	for (;;) {
		bool is_first = mbsinit(&e->shift) != 0;
		char byte = e->next;
		int got = e->has_next ? 1 : read_byte(e, &byte);

		e->has_next = false;
		if (got <= 0)
			return got;
		switch (mbrtowc(c, &byte, 1, &e->shift)) {
		case (size_t)-1:
			*c = replace_invalid(e, byte, is_first);
			return 1;
		case (size_t)-2:
			break;
		default:
			return 1;
		}
	}
}

static char *
prompt(EditLine *el)
{
	return (char *)(uintptr_t)fz_edit_of(el)->prompt;
}

/* Whether the terminal can move the cursor up, which editing needs. */
static bool
can_move(EditLine *el)
{
	char *up_sequence = NULL;

	return el_get(el, EL_GETTC, "up", &up_sequence) == 0 &&
	       up_sequence != NULL;
}

static bool
start_libedit(struct fz_edit *e)
{
	HistEvent event;

	e->null = fopen("/dev/null", "we");
	if (e->null == NULL)
		return false;
	e->el = el_init("fzlua", stdin, stdout, e->null);
	e->history = history_init();
	if (e->el == NULL || e->history == NULL || !can_move(e->el))
		return false;
	history(e->history, &event, H_SETSIZE, HISTORY_ENTRIES);
	el_set(e->el, EL_CLIENTDATA, e);
	el_set(e->el, EL_SIGNAL, 0);
	el_set(e->el, EL_EDITOR, "emacs");
	el_source(e->el, NULL);
	el_set(e->el, EL_HIST, history, e->history);
	el_set(e->el, EL_PROMPT_ESC, prompt, LITERAL);
	el_set(e->el, EL_GETCFN, read_char);
	fz_edit_bind_keys(e->el);
	return true;
}

static bool
is_terminal(void)
{
	return fz_term_has_cursor(STDOUT_FILENO) &&
	       fz_term_is_same(STDIN_FILENO, STDOUT_FILENO);
}

static struct fz_edit *
check_editor(lua_State *L)
{
	struct fz_edit *e = luaL_checkudata(L, 1, EDITOR_TYPE);

	luaL_argcheck(L, e->el != NULL, 1, "closed editor");
	return e;
}

/* Keep only the characters of the prompt that take columns. */
static void
measure_prompt(struct fz_edit *e)
{
	mbstate_t state = { 0 };
	bool is_literal = false;
	const char *at = e->prompt;
	wchar_t c;
	size_t len;

	e->nvisible = 0;
	while (e->nvisible < FZ_EDIT_PROMPT_MAX &&
	       (len = mbrtowc(&c, at, MB_CUR_MAX, &state)) - 1 < MB_CUR_MAX) {
		if (c == LITERAL)
			is_literal = !is_literal;
		else if (!is_literal)
			e->visible[e->nvisible++] = c;
		at += len;
	}
}

/*
 * Read an input, with the modes of the terminal and the signal handlers for
 * editing. Returns NULL if there is none.
 */
static const char *
read_input(struct fz_edit *e, int wake_fd)
{
	const char *line;
	int len;

	fz_interrupt_only_raise(true);
	fz_edit_tty_begin(wake_fd);
	fz_lsink_begin_input(e->sink, &e->input);
	line = el_gets(e->el, &len);
	if (line == NULL && !e->failed)
		fz_edit_leave(e, "");
	fz_edit_tty_end();
	fz_interrupt_only_raise(false);
	return line;
}

/*
 * editor:read(prompt) -> the input without its last newline | nil at the end.
 * Each control sequence in the prompt must be between two bytes \1.
 */
static int
editor_read(lua_State *L)
{
	struct fz_edit *e = check_editor(L);
	locale_t before;
	const char *line;
	size_t len;

	luaL_argcheck(
	    L, e->L == NULL, 1, "the editor is already reading an input");
	e->prompt = luaL_checkstring(L, 2);
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	before = uselocale(e->locale);
	e->L = L;
	e->failed = false;
	measure_prompt(e);
	line = read_input(e, fz_lloop_interrupt(L)->wake_fd);
	e->L = NULL;
	uselocale(before);
	if (e->failed)
		return lua_error(L);
	if (line == NULL)
		return 0;
	len = strlen(line);
	lua_pushlstring(
	    L, line, len > 0 && line[len - 1] == '\n' ? len - 1 : len);
	return 1;
}

/* editor:add(input): add an input to the history */
static int
editor_add(lua_State *L)
{
	struct fz_edit *e = check_editor(L);
	const char *input = luaL_checkstring(L, 2);
	locale_t before = uselocale(e->locale);
	HistEvent event;

	history(e->history, &event, H_ENTER, input);
	uselocale(before);
	return 0;
}

/* editor:has_news() -> whether editor:read() must not wait for a key */
static int
editor_has_news(lua_State *L)
{
	check_editor(L);
	lua_pushboolean(L, fz_edit_tty_has_news());
	return 1;
}

static int
editor_gc(lua_State *L)
{
	struct fz_edit *e = luaL_checkudata(L, 1, EDITOR_TYPE);

	if (e->el != NULL)
		el_end(e->el);
	if (e->history != NULL)
		history_end(e->history);
	if (e->null != NULL)
		fclose(e->null);
	if (e->locale != NULL)
		freelocale(e->locale);
	memset(e, 0, sizeof(*e));
	return 0;
}

static const luaL_Reg methods[] = {
	{ "read", editor_read },
	{ "add", editor_add },
	{ "has_news", editor_has_news },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", editor_gc },
	{ NULL, NULL },
};

static const struct fz_luserdata_class editor_class = {
	.name = EDITOR_TYPE, .methods = methods, .metamethods = metamethods
};

int
fz_edit_new(lua_State *L)
{
	struct fz_edit *e;
	locale_t before;
	bool started;

	luaL_checktype(L, 1, LUA_TTABLE);
	if (!is_terminal())
		return 0;
	e = lua_newuserdatauv(L, sizeof(*e), 0);
	memset(e, 0, sizeof(*e));
	fz_luserdata_set(L, &editor_class);
	lua_pushvalue(L, 1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, e);
	e->sink = fz_lloop_sink(L);
	e->input.row = cursor_row;
	e->input.draw = draw;
	e->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	if (e->locale == NULL)
		return 0;
	before = uselocale(e->locale);
	started = start_libedit(e);
	uselocale(before);
	return started ? 1 : 0;
}
