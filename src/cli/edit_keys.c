#include "cli/edit_keys.h"

#include <histedit.h>
#include <stdbool.h>
#include <stdlib.h>
#include <wchar.h>

#include <lua.h>

#include "bind/lsink.h"
#include "cli/edit_state.h"

/* The sequence that enter() passes to libedit, bound to ed-newline. */
#define ACCEPT "\033[accept~"
#define PASTE_END L"\033[201~"

/* Key Enter: end the input if it is complete, else begin a new line. */
static unsigned char
enter(EditLine *el, int c)
{
	struct fz_edit *e = fz_edit_of(el);
	bool complete;

	(void)c;
	if (!fz_edit_call(e, "is_complete", el_line(el))) {
		fz_edit_leave(e, "");
		return CC_EOF;
	}
	complete = lua_toboolean(e->L, -1);
	lua_pop(e->L, 1);
	if (complete) {
		fz_lsink_end_input(e->sink);
		el_push(el, ACCEPT);
		return CC_NORM;
	}
	return el_insertstr(el, "\n") == 0 ? CC_REFRESH : CC_ERROR;
}

static unsigned char
newline(EditLine *el, int c)
{
	(void)c;
	return el_insertstr(el, "\n") == 0 ? CC_REFRESH : CC_ERROR;
}

static unsigned char
complete(EditLine *el, int c)
{
	struct fz_edit *e = fz_edit_of(el);
	unsigned char result = CC_NORM;

	(void)c;
	if (!fz_edit_call(e, "complete", el_line(el))) {
		fz_edit_leave(e, "^C");
		return CC_EOF;
	}
	if (lua_type(e->L, -1) == LUA_TSTRING) {
		bool fits = el_insertstr(el, lua_tostring(e->L, -1)) == 0;

		result = fits ? CC_REFRESH : CC_ERROR;
	}
	lua_pop(e->L, 1);
	return result;
}

/* Pasted text, as the terminal sends it. */
struct paste {
	wchar_t *text;
	size_t n, size;
};

static bool
paste_add(struct paste *paste, wchar_t c)
{
	if (paste->n + 1 >= paste->size) {
		size_t size = paste->size != 0 ? 2 * paste->size : 256;
		wchar_t *text =
		    realloc(paste->text, size * sizeof(paste->text[0]));

		if (text == NULL)
			return false;
		paste->text = text;
		paste->size = size;
	}
	paste->text[paste->n++] = c == L'\r' ? L'\n' : c;
	paste->text[paste->n] = L'\0';
	return true;
}

/* Remove the end mark from the text. Returns whether it was there. */
static bool
paste_ends(struct paste *paste)
{
	size_t len = wcslen(PASTE_END);

	if (paste->n < len ||
	    wcscmp(paste->text + paste->n - len, PASTE_END) != 0)
		return false;
	paste->text[paste->n - len] = L'\0';
	return true;
}

static unsigned char
paste(EditLine *el, int c)
{
	struct paste text = { NULL, 0, 0 };
	unsigned char result = CC_EOF;
	wchar_t next;

	(void)c;
	while (el_wgetc(el, &next) == 1 && paste_add(&text, next)) {
		if (!paste_ends(&text))
			continue;
		result =
		    el_winsertstr(el, text.text) == 0 ? CC_REFRESH : CC_ERROR;
		break;
	}
	free(text.text);
	return result;
}

static unsigned char
move_to(EditLine *el, const wchar_t *place)
{
	el_cursor(el, (int)(place - el_wline(el)->cursor));
	return CC_CURSOR;
}

static const wchar_t *
line_start(const LineInfoW *line)
{
	const wchar_t *at = line->cursor;

	while (at > line->buffer && at[-1] != L'\n')
		at--;
	return at;
}

static const wchar_t *
line_end(const LineInfoW *line)
{
	const wchar_t *at = line->cursor;

	while (at < line->lastchar && *at != L'\n')
		at++;
	return at;
}

static unsigned char
home(EditLine *el, int c)
{
	(void)c;
	return move_to(el, line_start(el_wline(el)));
}

static unsigned char
end(EditLine *el, int c)
{
	(void)c;
	return move_to(el, line_end(el_wline(el)));
}

/*
 * Key Up: move the cursor to the line above. In the first line, show the
 * previous entry of the history.
 */
static unsigned char
up(EditLine *el, int c)
{
	const LineInfoW *line = el_wline(el);

	(void)c;
	el_push(el, line_start(line) > line->buffer ? "\033[line-up~"
						    : "\033[entry-up~");
	return CC_NORM;
}

static unsigned char
down(EditLine *el, int c)
{
	const LineInfoW *line = el_wline(el);

	(void)c;
	el_push(el, line_end(line) < line->lastchar ? "\033[line-down~"
						    : "\033[entry-down~");
	return CC_NORM;
}

static const struct {
	const wchar_t *name;
	unsigned char (*call)(EditLine *el, int c);
} commands[] = {
	{ L"fz-enter", enter },
	{ L"fz-newline", newline },
	{ L"fz-complete", complete },
	{ L"fz-paste", paste },
	{ L"fz-home", home },
	{ L"fz-end", end },
	{ L"fz-up", up },
	{ L"fz-down", down },
};

static const struct {
	const char *keys, *command;
} bindings[] = {
	{ "^M", "fz-enter" },
	{ "^J", "fz-enter" },
	{ "\033^M", "fz-newline" },
	{ "\033^J", "fz-newline" },
	{ "^I", "fz-complete" },
	{ "^R", "em-inc-search-prev" },
	{ "^S", "em-inc-search-next" },
	{ "^W", "ed-delete-prev-word" },
	{ "^A", "fz-home" },
	{ "^E", "fz-end" },
	{ "^P", "fz-up" },
	{ "^N", "fz-down" },
	{ "\033[A", "fz-up" },
	{ "\033OA", "fz-up" },
	{ "\033[B", "fz-down" },
	{ "\033OB", "fz-down" },
	{ "\033[H", "fz-home" },
	{ "\033OH", "fz-home" },
	{ "\033[1~", "fz-home" },
	{ "\033[F", "fz-end" },
	{ "\033OF", "fz-end" },
	{ "\033[4~", "fz-end" },
	{ "\033[3~", "ed-delete-next-char" },
	{ "\033[1;5C", "em-next-word" },
	{ "\033[1;5D", "ed-prev-word" },
	{ "\033[200~", "fz-paste" },
	{ ACCEPT, "ed-newline" },
	{ "\033[line-up~", "ed-prev-line" },
	{ "\033[line-down~", "ed-next-line" },
	{ "\033[entry-up~", "ed-prev-history" },
	{ "\033[entry-down~", "ed-next-history" },
};

void
fz_edit_bind_keys(EditLine *el)
{
	/* These names are constants, because el_set() keeps the pointers. */
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		el_wset(el, EL_ADDFN, commands[i].name, L"of fzlua",
		    commands[i].call);
	for (size_t i = 0; i < sizeof(bindings) / sizeof(bindings[0]); i++)
		el_set(
		    el, EL_BIND, bindings[i].keys, bindings[i].command, NULL);
}
