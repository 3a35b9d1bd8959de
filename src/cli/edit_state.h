/* edit_state.h - the editor, for its files. */
#ifndef FZ_EDIT_STATE_H
#define FZ_EDIT_STATE_H

#include <histedit.h>
#include <stdbool.h>
#include <stdio.h>
#include <wchar.h>

#include <lua.h>

#include "os/footer.h"

struct fz_lsink;

enum { FZ_EDIT_PROMPT_MAX = 256 };

struct fz_edit {
	EditLine *el;
	History *history;
	FILE *null;   /* messages of libedit */
	void *locale; /* a locale_t: its characters are those of the terminal */
	mbstate_t shift; /* of the bytes that were read */
	char next;       /* a byte that was read and not used */
	bool has_next;
	lua_State *L; /* while reading: its callbacks run there */
	bool failed;  /* a callback has; its error is on top of the stack */
	struct fz_lsink *sink;
	struct fz_footer_input input;
	const char *prompt; /* while reading */
	wchar_t visible[FZ_EDIT_PROMPT_MAX];
	size_t nvisible; /* characters of the prompt that take columns */
};

/* The editor of this EditLine. */
struct fz_edit *fz_edit_of(EditLine *el);

/*
 * Call a callback with the texts before and after the cursor; `line` may be
 * NULL. An error does not leave libedit. Its result is on the stack. False: it
 * has failed.
 */
bool fz_edit_call(struct fz_edit *e, const char *name, const LineInfo *line);

/* The input is given up: write `mark` and move the cursor below it. */
void fz_edit_leave(struct fz_edit *e, const char *mark);

#endif
