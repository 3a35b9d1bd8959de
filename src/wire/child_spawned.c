#include "wire/child_spawned.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "os/jobserver.h"
#include "proc/proc.h"
#include "wire/child_stream.h"

enum {
	WORD_OPTION = 1,
	WORD_VERSION,
	WORD_PARENT,
	WORD_LINK,
	WORD_MEMORY,
	WORD_HEAP,
	WORD_WAKE,
	WORD_KEEPER,
	WORD_KEPT,
	WORD_SLOTS,
	WORD_ACCOUNT,
	NWORDS
};

_Static_assert((int)NWORDS == (int)FZ_CHILD_SPAWNED_WORDS, "number of words");

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
	set_number(words, WORD_MEMORY, spawned->memory);
	set_number(words, WORD_HEAP, spawned->heap.file);
	set_number(words, WORD_WAKE, spawned->heap.wake);
	set_number(words, WORD_KEEPER, spawned->heap.keeper);
	set_number(words, WORD_KEPT, spawned->heap.kept);
	set_number(words, WORD_SLOTS, spawned->slots);
	set_number(words, WORD_ACCOUNT, (long)spawned->account);
	for (int i = 0; i < NWORDS; i++)
		words->argv[i] = words->text[i];
	words->argv[NWORDS] = NULL;
	return words->argv;
}

bool
fz_child_spawned_is(int argc, char *const *argv)
{
	/*
	 * `fzlua --worker` followed by options starts a node that joins an
	 * engine.
	 */
	return argc == NWORDS &&
	       strcmp(argv[WORD_OPTION], WORKER_OPTION) == 0 &&
	       argv[WORD_VERSION][0] != '-';
}

static int
refuse(const struct fz_child_spawned *spawned, const struct fz_err *err)
{
	fz_child_stream_refuse(spawned->link, err->kind, err->text);
	return -1;
}

static int
number_at(char *const *argv, int i)
{
	return (int)strtol(argv[i], NULL, 10);
}

static void
read_words(struct fz_child_spawned *spawned, char *const *argv)
{
	*spawned = (struct fz_child_spawned){
		.parent = number_at(argv, WORD_PARENT),
		.link = number_at(argv, WORD_LINK),
		.memory = number_at(argv, WORD_MEMORY),
		.heap = { .file = number_at(argv, WORD_HEAP),
		    .wake = number_at(argv, WORD_WAKE),
		    .keeper = number_at(argv, WORD_KEEPER),
		    .kept = number_at(argv, WORD_KEPT) },
		.slots = number_at(argv, WORD_SLOTS),
		.pipe = { -1, -1 },
		.account = (uint64_t)strtoll(argv[WORD_ACCOUNT], NULL, 10),
	};
}

/*
 * Find the pipe of the slots. The descriptors that MAKEFLAGS names stay open
 * for programs that this one starts.
 */
static void
find_pipe(struct fz_child_spawned *spawned, int keep[4])
{
	int named[2];
	bool good = fz_jobserver_named(named);

	if (spawned->slots == FZ_CHILD_SPAWNED_OF_MAKE)
		good = fz_jobserver_find(spawned->pipe);
	else if (good)
		memcpy(spawned->pipe, named, sizeof(named));
	if (!good)
		spawned->slots = FZ_CHILD_SPAWNED_NO_SLOTS;
	memcpy(keep, named, sizeof(named));
	memcpy(keep + 2, spawned->pipe, sizeof(named));
}

int
fz_child_spawned_enter(struct fz_child_spawned *spawned, char *const *argv)
{
	struct fz_err err = { 0 };
	int keep[8] = { -1, -1, -1, -1, -1, -1, -1, -1 };

	read_words(spawned, argv);
	keep[0] = spawned->link;
	keep[1] = spawned->heap.file;
	keep[2] = spawned->heap.wake;
	keep[3] = spawned->memory;
	if (strcmp(argv[WORD_VERSION], FZLUA_VERSION) != 0) {
		fz_err_set(&err, FZ_ERR_ERROR,
		    "the worker is of version %s, and the library of version "
		    "%.32s",
		    FZLUA_VERSION, argv[WORD_VERSION]);
		return refuse(spawned, &err);
	}
	if (spawned->slots != FZ_CHILD_SPAWNED_NO_SLOTS)
		find_pipe(spawned, keep + 4);
	if (fz_proc_enter(spawned->parent, keep, 8, &err) != 0)
		return refuse(spawned, &err);
	fz_heap_inherit(&spawned->heap);
	return 0;
}
