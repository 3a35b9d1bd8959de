/* edit_state.h - the state of the editor, shared by the files of the editor. */
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
	FILE *null;      /* /dev/null; libedit writes its messages to it */
	void *locale;    /* a locale_t with the character set of the terminal */
	mbstate_t shift; /* conversion state of the bytes that were read */
	char next;       /* a byte that was read but not used yet */
	bool has_next;
	lua_State *L; /* during a read: the Lua state for callbacks */
	/* a callback has failed; its error is on top of the stack */
	bool failed;
	struct fz_lsink *sink;
	struct fz_footer_input input;
	const char *prompt; /* during a read: the prompt */
	wchar_t visible[FZ_EDIT_PROMPT_MAX];
	/* number of characters of the prompt that take columns */
	size_t nvisible;
};

/* The editor to which this EditLine belongs. */
struct fz_edit *fz_edit_of(EditLine *el);

/*
 * Call a callback with the texts before and after the cursor; without a `line`
 * there are none. Pushes the result. An error must not unwind libedit: it is
 * pushed instead, and the function returns false.
 */
bool fz_edit_call(struct fz_edit *e, const char *name, const LineInfo *line);

/* Abandon the input. Writes `mark`, and moves the cursor below the input. */
void fz_edit_leave(struct fz_edit *e, const char *mark);

#endif
