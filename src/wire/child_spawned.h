/*
 * child_spawned.h - the command line of a worker that is a program.
 *
 * 	PROGRAM --worker VERSION PARENT LINK MEMORY HEAP WAKE KEEPER KEPT
 * 	        SLOTS ACCOUNT
 *
 * VERSION is the version of the library; a program of another version refuses
 * to serve. PARENT is the pid of the process that has started the worker, LINK
 * the number of the socket to that process, MEMORY that of the file with the
 * mailbox, or -1. HEAP to KEPT are for fz_heap_inherit(). SLOTS is the number
 * of slots that the worker shares with its parent; MAKEFLAGS names the pipe of
 * the slots. ACCOUNT is the name of the worker's account (see account.h), or 0.
 */
#ifndef FZ_CHILD_SPAWNED_H
#define FZ_CHILD_SPAWNED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/heap.h"

struct fz_err;

struct fz_child_spawned {
	pid_t parent;
	int link;   /* the socket to the parent */
	int memory; /* file of the mailbox; -1: none */
	struct fz_heap_files heap;
	int slots;   /* number; or a special value below */
	int pipe[2]; /* pipe of the slots, for fz_slots_of_parent() */
	uint64_t account;
};

/* Special values of `slots`. */
enum { FZ_CHILD_SPAWNED_NO_SLOTS = -1, FZ_CHILD_SPAWNED_OF_MAKE = 0 };

enum { FZ_CHILD_SPAWNED_WORDS = 12 };

/* Memory for the words of a command line. */
struct fz_child_spawned_words {
	char text[FZ_CHILD_SPAWNED_WORDS][32];
	char *argv[FZ_CHILD_SPAWNED_WORDS + 1];
};

/* The words of a worker's command line, which end with NULL. */
char *const *fz_child_spawned_argv(const struct fz_child_spawned *spawned,
    struct fz_child_spawned_words *words);

/* Whether this is the command line of a worker. */
bool fz_child_spawned_is(int argc, char *const *argv);

/*
 * Read the command line of this process, and become a worker: see
 * fz_proc_enter(). 0, or -1 after the reason was sent to the parent.
 */
int fz_child_spawned_enter(struct fz_child_spawned *spawned, char *const *argv);

#endif
