/* slots_state.h - struct fz_slots, for the files of slots. */
#ifndef FZ_SLOTS_STATE_H
#define FZ_SLOTS_STATE_H

#include <stdbool.h>

#include "os/loop.h"
#include "worker/account.h"

struct fz_engine;
struct fz_slots_waiter;

enum { SLOTS_OF_MAKE = 4096 }; /* maximum number of tokens of one process */

struct fz_slots {
	struct fz_engine *engine;
	unsigned refs;
	unsigned n;    /* slots of all processes; 0: no limit yet */
	int shared[2]; /* for the programs of workers; -1: they use make's */
	int in, out; /* own ends; `in` is nonblocking, -1 until its first use */
	unsigned used;         /* slots of this process, including its own */
	unsigned char *tokens; /* held; make must get the same bytes back */
	unsigned ntokens, tokens_cap;
	bool dry;     /* the pipe was empty; the watch waits for a token */
	bool is_ours; /* this process created the pipe */
	const struct fz_lineage *lineage; /* of this process, or NULL */
	struct fz_lineage first;          /* of the process that made it */
	struct fz_account
	    *page; /* the account if it is not in a mailbox; or NULL */
	struct fz_slots_waiter *waiters;
	struct fz_watch watch;
	struct fz_defer settle;
	bool settling; /* settle() was called once and deferred itself again */
	struct fz_fork_hook hook;
	/*
	 * Environment for workers, and the environment and number of slots it
	 * was built from, to detect changes.
	 */
	char **environ_, **made_of;
	unsigned made_for;
	bool entered; /* `environ_` is the environment of this process */
};

/* Read one token and count it in the accounts; false if there is none. */
bool fz_slots_read_token(struct fz_slots *s);

/* Uncount the tokens beyond the first `keep` and write them to the pipe. */
void fz_slots_give_up_tokens(struct fz_slots *s, unsigned keep);

/* Write `n` tokens that this process does not hold to the pipe. */
void fz_slots_write_new_tokens(const struct fz_slots *s, unsigned n);

/* Add or remove tokens until the pipe that this process made holds `want`. */
void fz_slots_set_tokens(struct fz_slots *s, unsigned want);

#endif
