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
	FILE *null;      /* /dev/null, for messages of libedit */
	void *locale;    /* a locale_t with the characters of the terminal */
	mbstate_t shift; /* conversion state of the bytes that were read */
	char next;       /* a byte that was read and is not used yet */
	bool has_next;
	lua_State *L; /* while reading: the state in which callbacks run */
	/* a callback has failed; its error is on top of the stack */
	bool failed;
	struct fz_lsink *sink;
	struct fz_footer_input input;
	const char *prompt; /* while reading: the prompt */
	wchar_t visible[FZ_EDIT_PROMPT_MAX];
	/* number of characters of the prompt that take columns */
	size_t nvisible;
};

/* The editor of this EditLine. */
struct fz_edit *fz_edit_of(EditLine *el);

/*
 * Call a callback with the texts before and after the cursor; `line` may be
 * NULL. Its result is left on the stack. An error does not unwind libedit: it
 * is left on the stack, and the function returns false.
 */
bool fz_edit_call(struct fz_edit *e, const char *name, const LineInfo *line);

/* Abandon the input: write `mark` and move the cursor below it. */
void fz_edit_leave(struct fz_edit *e, const char *mark);

#endif
