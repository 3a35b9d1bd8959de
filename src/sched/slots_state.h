/* slots_state.h - struct fz_slots, for the files of slots. */
#ifndef FZ_SLOTS_STATE_H
#define FZ_SLOTS_STATE_H

#include <stdbool.h>

#include "os/loop.h"
#include "wire/account.h"

struct fz_engine;
struct fz_slots_waiter;

enum { SLOTS_OF_MAKE = 4096 }; /* maximum number of tokens of one process */

struct fz_slots {
	struct fz_engine *engine;
	unsigned refs;
	unsigned n; /* number of slots of all processes; 0: no limit yet */
	/*
	 * the pipe for programs that workers start; -1: they use that of make
	 */
	int shared[2];
	/*
	 * the ends of this process; `in` is nonblocking, and -1 until its first
	 * use
	 */
	int in, out;
	/* number of slots that this process uses, including its own */
	unsigned used;
	/* the held tokens; make must get the same bytes back */
	unsigned char *tokens;
	unsigned ntokens, tokens_cap;
	bool dry;     /* the pipe was empty; the watch waits for a token */
	bool is_ours; /* this process created the pipe */
	/* the accounts of this process, or NULL */
	const struct fz_lineage *lineage;
	/* the account of the process that made the slots */
	struct fz_lineage first;
	/* the account if it is not in a mailbox; or NULL */
	struct fz_account *page;
	struct fz_slots_waiter *waiters;
	struct fz_watch watch;
	struct fz_defer settle;
	bool settling; /* settle() was called once and deferred itself again */
	struct fz_fork_hook hook;
	/*
	 * `environ_` is the environment for workers; `made_of` and `made_for`
	 * are the environment and the number of slots that it was built from,
	 * to detect changes.
	 */
	char **environ_, **made_of;
	unsigned made_for;
	bool entered; /* `environ_` is the environment of this process */
};

/* Read one token and count it in the accounts. False if there is none. */
bool fz_slots_read_token(struct fz_slots *s);

/*
 * Write the tokens beyond the first `keep` to the pipe, and remove them from
 * the accounts.
 */
void fz_slots_give_up_tokens(struct fz_slots *s, unsigned keep);

/* Write to the pipe `n` tokens that this process does not hold. */
void fz_slots_write_new_tokens(const struct fz_slots *s, unsigned n);

/* Add or remove tokens until the pipe that this process made holds `want`. */
void fz_slots_set_tokens(struct fz_slots *s, unsigned want);

#endif
