#include "worker/child_spawned.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "os/proc.h"
#include "worker/child_stream.h"

enum { WORD_OPTION = 1, WORD_VERSION, WORD_PARENT, WORD_LINK, NWORDS };

#define WORKER_OPTION "--worker"

static void
set_word(struct fz_child_spawned_words *words, int i, const char *text)
{
	snprintf(words->text[i], sizeof(words->text[i]), "%s", text);
}

static void
set_number(struct fz_child_spawned_words *words, int i, long number)
{
	snprintf(words->text[i], sizeof(words->text[i]), "%ld", number);
}

char *const *
fz_child_spawned_argv(const struct fz_child_spawned *spawned,
    struct fz_child_spawned_words *words)
{
	set_word(words, 0, "fzlua");
	set_word(words, WORD_OPTION, WORKER_OPTION);
	set_word(words, WORD_VERSION, FZLUA_VERSION);
	set_number(words, WORD_PARENT, spawned->parent);
	set_number(words, WORD_LINK, spawned->link);
	for (int i = 0; i < NWORDS; i++)
		words->argv[i] = words->text[i];
	words->argv[NWORDS] = NULL;
	return words->argv;
}

bool
fz_child_spawned_is(int argc, char *const *argv)
{
	return argc == NWORDS && strcmp(argv[WORD_OPTION], WORKER_OPTION) == 0;
}

static int
refuse(const struct fz_child_spawned *spawned, const struct fz_err *err)
{
	fz_child_stream_refuse(spawned->link, err->text);
	return -1;
}

int
fz_child_spawned_enter(struct fz_child_spawned *spawned, char *const *argv)
{
	struct fz_err err = { 0 };
	int keep[1];

	spawned->parent = (pid_t)strtol(argv[WORD_PARENT], NULL, 10);
	spawned->link = keep[0] = (int)strtol(argv[WORD_LINK], NULL, 10);
	if (strcmp(argv[WORD_VERSION], FZLUA_VERSION) != 0) {
		fz_err_set(&err, FZ_ERR_ERROR,
		    "the worker is of version %s, and the library of version "
		    "%.32s",
		    FZLUA_VERSION, argv[WORD_VERSION]);
		return refuse(spawned, &err);
	}
	if (fz_proc_enter(spawned->parent, keep, 1, &err) != 0)
		return refuse(spawned, &err);
	return 0;
}
